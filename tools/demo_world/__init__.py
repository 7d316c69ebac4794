"""The small world that the bundled demo model learns to talk about.

Every word that the model is trained on is composed here, from facts and templates: there is no downloaded text.
Everything is drawn from one seeded generator, so the same seed always gives the same text.
"""

from tools.demo_world.composer import Composer, Message

__all__ = ["Composer", "Message"]
