"""ONE decoder for every family: what differs between them is in ``ModelConfig``, never in a file of its own.

A forward pass runs over a flat batch: the tokens of all chunks of a step, one after the other, without padding.
The residual stream is fp32; linear layers and attention run in the compute type of the linear kernel.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from headway.engine.attention.interface import StepAttention
from headway.engine.linear import Linear
from headway.engine.norm import RmsNorm
from headway.engine.parallel import Communicator
from headway.engine.rotation import Rotary, Rotation
from headway.engine.weights import BlockWeights, DecoderWeights, Shard

Block = BlockWeights[Linear, RmsNorm]


class Decoder:
    """One rank's decoder."""

    def __init__(
        self,
        weights: DecoderWeights[Tensor, Linear, RmsNorm],
        shard: Shard,
        communicator: Communicator,
    ) -> None:
        self._weights = weights
        self._shard = shard
        self._config = shard.config
        self._communicator = communicator
        self._rotary = Rotary(shard.config.rope, shard.config.head_dim)

    def forward(self, tokens: Tensor, positions: Tensor, attend: StepAttention, rows: Tensor) -> Tensor:
        """Logits (fp32, [len(rows), vocabulary]) after the tokens at ``rows`` of the batch; the same on every rank.

        ``tokens`` and ``positions``: int64, [tokens]. The cache holds all tokens' keys and values afterwards.
        """
        hidden = functional.embedding(tokens, self._weights.embedding).float()
        rotation = self._rotary.at(positions)
        last = len(self._weights.blocks) - 1
        for layer, block in enumerate(self._weights.blocks):
            attended = self._attend(layer, block, block.attention_norm(hidden), rotation, attend)
            if layer == last:  # from here on each row goes its own way, and only these are asked for
                hidden, attended = hidden[rows], attended[rows]
            if hidden.shape[0] == 0:
                return hidden.new_empty(0, self._config.vocab_size)
            hidden += self._communicator.sum(block.output(attended))
            hidden += self._communicator.sum(_feed_forward(block, block.feed_forward_norm(hidden)))
        logits = self._communicator.gather(self._weights.head(self._weights.final_norm(hidden)))
        return logits[:, : self._config.vocab_size].float()

    def _attend(
        self,
        layer: int,
        block: Block,
        normed: Tensor,
        rotation: Rotation,
        attend: StepAttention,
    ) -> Tensor:
        heads, turning = self._shard.heads, self._shard.heads + self._shard.kv_heads
        mixed = block.qkv(normed).view(normed.shape[0], -1, self._config.head_dim)
        if block.query_norm is not None and block.key_norm is not None:
            mixed[:, :heads] = block.query_norm(mixed[:, :heads])
            mixed[:, heads:turning] = block.key_norm(mixed[:, heads:turning])
        rotation(mixed[:, :turning])
        return attend(layer, mixed[:, :heads], mixed[:, heads:])


def _feed_forward(block: Block, normed: Tensor) -> Tensor:
    gate, up = block.gate_up(normed).chunk(2, dim=-1)
    return block.down(functional.silu(gate).mul_(up))
