"""Parts of networks that no library has: the normalisation of pictures, sequences of slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from t4e_utils.learning import ModelError

# Mean and deviation of the channels, and the value that stands for 1.
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255),
    "unit": ((0.0,), (1.0,), 255),
}


class Normalise(nn.Module):
    """Bring stored pictures to what a network expects; nothing of it is among the weights.

    Args:
        kind: one of `NORMALISATIONS`.
        n_inputs: channels C that leave; a single one that enters is repeated.
    """

    def __init__(self, kind: str, n_inputs: int):
        super().__init__()
        if kind not in NORMALISATIONS:
            raise ModelError(
                f"The normalisation {kind!r} is not known: choose one of "
                f"{', '.join(NORMALISATIONS)}."
            )
        mean, std, one = NORMALISATIONS[kind]
        if len(mean) not in (1, n_inputs):
            raise ModelError(
                f"The normalisation {kind!r} is for {len(mean)} channels, and the network has "
                f"{n_inputs}: choose 'unit'."
            )
        for name, values in (("mean", mean), ("std", std)):
            scaled = torch.tensor(values).view(-1, 1, 1).expand(n_inputs, 1, 1) * one
            self.register_buffer(name, scaled, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 `(..., C, H, W)` of uint8 `(..., 1 or C, H, W)`.

        Raises:
            ModelError: the images are not uint8 or have another number of channels.
        """
        n_inputs = len(self.mean)
        if images.dtype != torch.uint8:
            raise ModelError(
                f"Images are uint8 in 0..255, these are {images.dtype}: use intensity.to_uint8."
            )
        if images.ndim < 3 or images.shape[-3] not in (1, n_inputs):
            raise ModelError(
                f"Images are (..., 1 or {n_inputs}, H, W), these have the shape "
                f"{tuple(images.shape)}."
            )
        return (images.float() - self.mean) / self.std


class SequenceClassifier(nn.Module):
    """Logits for a sequence of slices: a backbone for each, an LSTM along them, a linear layer.

    The last layer sees all steps. The names of the parts are those of published checkpoints.

    Args:
        backbone: maps `(N, C, H, W)` to `(N, E)`; its `num_features` is E.
        normalise: applied to each slice.
        lstm_hidden: size of the LSTM's hidden state in each direction.
        sequence_length: number of steps T.
    """

    def __init__(
        self, backbone: nn.Module, normalise: Normalise, *, lstm_hidden: int, sequence_length: int
    ):
        super().__init__()
        self.backbone = backbone
        self.lstm = nn.LSTM(
            backbone.num_features, lstm_hidden, batch_first=True, bidirectional=True
        )
        self.clf_head = nn.Linear(sequence_length * 2 * lstm_hidden, 1)
        self.normalise, self.sequence_length = normalise, sequence_length

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings `(N, E)` of slices `(N, C, H, W)` uint8."""
        return self.backbone(self.normalise(images))

    def classify(self, embeddings: Tensor) -> Tensor:
        """Logits `(B,)` of sequences of embeddings `(B, T, E)`."""
        if embeddings.shape[1] != self.sequence_length:
            raise ModelError(
                f"The classifier takes sequences of {self.sequence_length} slices, this one has "
                f"{embeddings.shape[1]}: fill the end with zero images or cut chunks of that "
                "length."
            )
        states, _ = self.lstm(embeddings)
        return self.clf_head(states.flatten(1)).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B,)` of sequences `(B, T, C, H, W)` uint8.

        Of the black images that fill short ones, one is embedded.
        """
        frames = images.flatten(0, 1)
        is_filled = (frames != 0).flatten(1).any(1)
        if is_filled.all():
            embeddings = self.embed(frames)
        else:
            place = torch.where(is_filled, is_filled.cumsum(0) - 1, -1)
            shown = torch.cat([frames[is_filled], frames[~is_filled][:1]])
            embeddings = self.embed(shown)[place]
        return self.classify(embeddings.unflatten(0, images.shape[:2]))
