"""A gated PixelCNN over one grid of codes (arXiv 1606.05328)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stage2_prior.pixelcnn.attention import CausalAttention
from stage2_prior.pixelcnn.layers import GatedLayer, Streams
from stage2_prior.pixelcnn.weights import LayerWeights, StackWeights, bias_of


class GatedStack(nn.Module):
    """A gated PixelCNN over one grid: codes and a condition to logits.

    The codes' embeddings enter shifted, one row down for the vertical stack and one column right for the horizontal
    one. That is mask A of the paper; all layers after it may look at their own position (mask B) and are alike.

    Args:
        shape: Height and width of the grid.
        codebook_size: Number of codes.
        condition: Computes what all layers are conditioned on, ``[B, width, H or 1, W or 1]``, of any inputs. The
            caller runs it, once for a whole grid, and passes its result to :meth:`forward`.
        width: Channels of the vertical and of the horizontal stack.
        layers: Number of gated layers.
        kernel: Side of the kernels that the cropped ones are part of, odd and at least 3. With
            r = ``layers * (kernel // 2)``, a position sees r + 1 rows above, r columns to either side in them,
            and r + 1 positions to its left.
        dropout: On what each gated layer adds to the horizontal stack.
        attention_every: Self-attention after every so many layers; None for no attention.
        heads: Attention heads.
        activation_checkpointing: Whether activations inside a layer are computed again in the backward pass.

    Raises:
        ValueError: If the kernel is even or less than 3, or the attention does not fit the layers and the width.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        codebook_size: int,
        condition: nn.Module,
        width: int,
        layers: int,
        kernel: int = 3,
        dropout: float = 0.0,
        attention_every: int | None = None,
        heads: int = 4,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if kernel < 3 or kernel % 2 == 0:
            raise ValueError(f"kernel is odd and at least 3, got {kernel}")
        if attention_every is not None and not 1 <= attention_every <= layers:
            raise ValueError(f"attention_every is from 1 to layers = {layers}, or null, got {attention_every}")
        if attention_every is not None and width % heads:
            raise ValueError(f"heads divide the width, got {heads} heads and width {width}")
        self.shape = shape
        self.kernel = kernel
        self.activation_checkpointing = activation_checkpointing
        self.code = nn.Embedding(codebook_size, width)
        # Codes that begin alike learn from one another; far apart, as by default, each is learned by heart.
        nn.init.normal_(self.code.weight, std=0.02)
        self.position = nn.Parameter(torch.randn(width, *shape) * 0.02)
        self.condition = condition
        self.layers = nn.ModuleList(GatedLayer(width, kernel, dropout) for _ in range(layers))
        self.attention = nn.ModuleDict()  # by the index of the layer that it comes after
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, codebook_size, 1))
        for index in range(attention_every - 1, layers, attention_every) if attention_every else ():
            self.attention[str(index)] = CausalAttention(width, heads, dropout)

    @property
    def gated_layers(self) -> list[GatedLayer]:
        """The layers in order."""
        return [layer for layer in self.layers if isinstance(layer, GatedLayer)]

    @property
    def attention_after(self) -> dict[int, CausalAttention]:
        """Self-attention by the index of the layer that it comes after."""
        return {int(index): block for index, block in self.attention.items() if isinstance(block, CausalAttention)}

    def forward(self, codes: Tensor, condition: Tensor) -> Tensor:
        """Logits ``[B, rows, W, codebook_size]`` of the first rows ``codes [B, rows, W]`` of the grid.

        Args:
            codes: The first rows, or all.
            condition: What :attr:`condition` returned, ``[B, C, H or 1, W or 1]``.
        """
        rows = codes.shape[1]
        known = self.code(codes)  # [B, rows, W, C]
        position = self.position[:, :rows]
        before = F.pad(known.flatten(1, 2), (0, 0, 1, -1))  # [B, rows * W, C]: shifted in raster order
        known = known.movedim(3, 1)  # [B, C, rows, W]
        streams = Streams(F.pad(known, (0, 0, 1, -1)) + position, F.pad(known, (1, -1)) + position)
        attention = self.attention_after
        again = self.activation_checkpointing and self.training
        for index, layer in enumerate(self.layers):
            of_layer = streams, condition[:, :, :rows]
            streams = checkpoint(layer, *of_layer, use_reentrant=False) if again else layer(*of_layer)
            if index in attention:
                streams = streams._replace(horizontal=attention[index](streams.horizontal, before))
        return self.head(streams.horizontal).movedim(1, 3)

    @torch.inference_mode()
    def folded(self) -> StackWeights:
        """A copy of the weights for the incremental form, with norms and scales multiplied in."""
        last = [layer for layer in self.head if isinstance(layer, nn.Conv2d)]
        codes = F.pad(self.code.weight, (0, 0, 0, 1))
        return StackWeights(
            self.kernel,
            codes,
            self.position.permute(1, 2, 0).contiguous(),
            [LayerWeights.of(layer) for layer in self.gated_layers],
            {index: attention.folded(codes) for index, attention in self.attention_after.items()},
            [(layer.weight[:, :, 0, 0].clone(), bias_of(layer).clone()) for layer in last],
        )
