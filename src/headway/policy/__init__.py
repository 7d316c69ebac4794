"""Everything that decides, and nothing that acts: pure Python, standard library only.

Time is an argument (seconds, float). No clock, no randomness, no event loop, no environment, no files.
Three verbs drive it: ``plan = scheduler.plan(now)``, ``result = executor.execute(plan)``,
``events = scheduler.apply(now, result)``.
"""
