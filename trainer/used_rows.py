"""A table of word vectors of which only the rows that training texts use are trained.

The others never get a gradient, yet AdamW reads and writes them, and twice their size in moments, at every step: of MiniLM's 22.7 million numbers
half are such a table, of multilingual MiniLM's 118 million four fifths. Left out, they stay as pretrained; weight decay, which is all AdamW would have
done to them, would have shrunk them by some ten-thousandths.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


class UsedRows(torch.nn.Module):
    """Stand for a `torch.nn.Embedding`; its state is saved and loaded as that one's.

    Args:
        table: the embedding, (V, H).
        ids: the rows that are trained; those of every text of the training data.
    """

    rest: torch.Tensor
    row_of: torch.Tensor

    def __init__(self, table: torch.nn.Embedding, ids: npt.NDArray[np.int64]) -> None:
        super().__init__()
        used = torch.from_numpy(np.unique(ids)).to(table.weight.device)  # (U,)
        row_of = torch.full((table.num_embeddings,), -1, device=table.weight.device)
        row_of[used] = torch.arange(len(used), device=table.weight.device)
        self.used = torch.nn.Parameter(table.weight.detach()[used].clone())  # (U, H)
        self.register_buffer("rest", table.weight.detach().clone(), persistent=False)  # (V, H)
        self.register_buffer("row_of", row_of, persistent=False)  # (V,)
        self.padding_idx = None  # the row of `used` that gets no gradient, as torch.nn.Embedding has it
        if table.padding_idx is not None and row_of[table.padding_idx] >= 0:
            self.padding_idx = int(row_of[table.padding_idx])

    @property
    def weight(self) -> torch.Tensor:
        """The whole table, (V, H)."""
        whole = self.rest.clone()
        whole[self.row_of >= 0] = self.used.detach()  # both in the order of ids
        return whole

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look vectors up: ids of any shape → (…, H)."""
        rows = self.row_of[input_ids]
        if self.training:
            return F.embedding(rows, self.used, padding_idx=self.padding_idx)
        return torch.where((rows >= 0)[..., None], F.embedding(rows.clamp(min=0), self.used), self.rest[input_ids])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *_: Any) -> None:
        with torch.no_grad():
            self.rest.copy_(state_dict[prefix + "weight"])
            self.used.copy_(self.rest[self.row_of >= 0])


def train_used_rows(model: Any, ids: npt.NDArray[np.int64]) -> None:
    """Put `UsedRows` in the place of a transformers model's word vectors.

    Args:
        model: with a table of its own for input; one that is tied (a decoder's) or not trained stays.
        ids: of all training texts, and of what they are padded with.
    """
    table = model.get_input_embeddings()
    if isinstance(table, torch.nn.Embedding) and table.weight.requires_grad and model.get_output_embeddings() is None:
        model.set_input_embeddings(UsedRows(table, ids))
