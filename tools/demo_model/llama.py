"""A small Llama for training, in plain torch.

It works on a flat row of tokens, several chats end to end without padding; each chat attends only to itself, and its
positions begin at zero. Parameters carry the names of Hugging Face's Llama, so that the state is the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of the model."""

    vocabulary: int
    hidden: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    head: int = 32
    inner: int = 704
    context: int = 1024
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5


class Attention(nn.Module):
    """Causal attention with grouped key and value heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head, shape.hidden, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], lengths: list[int]) -> Tensor:
        """``x``: [tokens, hidden]; ``lengths`` of the chats, which sum to ``tokens``."""
        head = self.shape.head
        q = _rotate(self.q_proj(x).view(len(x), -1, head), rotation)
        k = _rotate(self.k_proj(x).view(len(x), -1, head), rotation)
        v = self.v_proj(x).view(len(x), -1, head)
        chats = zip(*(part.transpose(0, 1).split(lengths, dim=1) for part in (q, k, v)), strict=True)
        mixed = [_attend(*chat) for chat in chats]
        return self.o_proj(torch.cat(mixed, dim=1).transpose(0, 1).reshape(len(x), -1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """The gated feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [tokens, hidden]."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Mlp(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], lengths: list[int]) -> Tensor:
        """``x``: [tokens, hidden]."""
        x = x + self.self_attn(self.input_layernorm(x), rotation, lengths)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)

    def forward(self, tokens: Tensor, lengths: list[int]) -> Tensor:
        """``tokens``: int64 [tokens]; returns the hidden states, [tokens, hidden]."""
        positions = torch.cat([torch.arange(length) for length in lengths])
        rotation = _rotation(positions, self.shape)
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, rotation, lengths)
        return self.norm(x)  # type: ignore[no-any-return]


class Llama(nn.Module):
    """The decoder with its head, which shares the weights of the embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = Decoder(shape)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                depth = (2 * shape.layers) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 * 2.5 * depth if "proj" in name else 0.02)

    def loss(self, tokens: Tensor, lengths: list[int], learned: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens where ``learned`` (bool [tokens]) is true.

        A chat must not begin with a learned token: nothing comes before it.
        """
        (targets,) = learned.nonzero(as_tuple=True)
        hidden = self.model(tokens, lengths)[targets - 1]
        logits = functional.linear(hidden, self.model.embed_tokens.weight)
        return functional.cross_entropy(logits, tokens[targets])


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One chat: q [heads, length, head], k and v [kv heads, length, head]."""
    group = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, dim=0), v.repeat_interleave(group, dim=0)
    return functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]


def _rotation(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, [tokens, 1, head]."""
    frequencies = shape.rope_theta ** (-torch.arange(0, shape.head, 2) / shape.head)
    angles = (positions[:, None] * frequencies).repeat(1, 2)[:, None]
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine
