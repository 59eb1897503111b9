"""The text encoder of CLIP, as Stable Diffusion has it: used as it is, on captions that come as numbers of words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import require
from inkwash.nets.adapters.frozen import Frozen


class FrozenCLIPText(Frozen):
    """A frozen `CLIPTextModel`, and how its tokenizer writes the words of a vocabulary.

    CLIP takes a text apart into words before it takes words apart into pieces, so the pieces of a text are those of its
    words one after the other, but for marks that stand side by side. They are put together on the device, in any batch
    alike.

    Args:
        encoder, tokenizer: of transformers.
        words: the vocabulary.
        name: where it is from, for messages.

    Attributes:
        width: channels of the context.
    """

    pieces: Tensor

    def __init__(self, encoder: Any, tokenizer: Any, words: Sequence[str], *, name: str = "the text encoder") -> None:
        super().__init__(encoder, name=name)
        config = encoder.config
        self.width, self.length = int(config.hidden_size), int(config.max_position_embeddings)
        self.ends = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id), int(tokenizer.pad_token_id)
        written = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
        most = max(map(len, written), default=1)
        # The last row is that of no word and of one that is not in the vocabulary.
        table = [found + [-1] * (most - len(found)) for found in [*written, []]]
        self.register_buffer("pieces", torch.tensor(table), persistent=False)

    def tokens(self, caption: Int64[Tensor, "b length"]) -> Int64[Tensor, "b most"]:
        """Of texts, as the tokenizer gives them: begun, ended, cut and filled up."""
        begin, end, filler = self.ends
        number = torch.where((caption < 0) | (caption >= len(self.pieces) - 1), len(self.pieces) - 1, caption)
        apart = self.pieces[number].flatten(1)
        order = (apart < 0).to(torch.uint8).argsort(dim=1, stable=True)
        together = apart.gather(1, order)[:, : self.length - 2]
        missing = self.length - 1 - together.shape[1]
        together = torch.cat([together, together.new_full((len(together), missing), -1)], dim=1)
        first = (together < 0).to(torch.uint8).argmax(dim=1, keepdim=True)
        filled = torch.where(together < 0, filler, together).scatter(1, first, end)
        return torch.cat([filled.new_full((len(filled), 1), begin), filled], dim=1)

    @torch.no_grad()
    def forward(self, caption: Int64[Tensor, "b length"]) -> Float[Tensor, "b most width"]:
        """The context of texts; zeros for one without a word."""
        states: Tensor = self.held(self.tokens(caption), return_dict=False)[0]
        said = (caption >= 0) & (caption < len(self.pieces) - 1)
        return states.float() * said.any(dim=1)[:, None, None]


def parts(folder: str | Path) -> tuple[Any, Any]:
    """The tokenizer and the text encoder in a folder of a Stable Diffusion.

    Raises:
        WrongUse: transformers is missing, or a part can't be read.
    """
    folder = Path(folder)
    transformers = require("transformers", "diffusers")
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = transformers.CLIPTextModel.from_pretrained(
            folder / "text_encoder", local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise WrongUse(f"{folder}: its text encoder cannot be read: {str(error).splitlines()[0]}") from error
    return tokenizer, encoder.eval()


def load(folder: str | Path, words: Sequence[str]) -> FrozenCLIPText:
    """The text encoder of a folder that holds `text_encoder` and `tokenizer`, for a vocabulary.

    Raises:
        WrongUse: transformers is missing, or a part is missing or can't be read.
    """
    folder = Path(folder).expanduser()
    for part in ("text_encoder", "tokenizer"):
        if not (folder / part).is_dir():
            raise WrongUse(f"{folder}: no folder {part}: text is a folder with text_encoder and tokenizer in it")
    tokenizer, encoder = parts(folder)
    return FrozenCLIPText(encoder, tokenizer, words, name=str(folder))
