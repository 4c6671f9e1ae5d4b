# Made by archlang 0.1.0 from <string> (sha256 e08c066f401bb47a): net

import torch
import torch.nn.functional as F
from torch import nn


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(12, 16)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gates = self.gates(torch.cat((x, hidden), -1)).unflatten(-1, (4, 4))
        gates0, gates1, gates2, gates3 = gates.unbind(1)
        memory = torch.sigmoid(gates0) * memory + torch.sigmoid(gates1) * torch.tanh(gates2)
        return torch.sigmoid(gates3) * torch.tanh(memory), memory


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(4, 4)

    def forward(self, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        weight = torch.einsum("bc,bmc->bm", self.q(query), memory).softmax(-1)
        return torch.einsum("bm,bmc->bc", weight, memory)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step = Cell()
        self.attend_to = Attention()

    def forward(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if x.ndim != 3 or x.shape[2] != 4:
            raise ValueError(f"x must be [b, t, c = 4], and is {list(x.shape)}")
        if source.ndim != 3 or source.shape[2] != 4:
            raise ValueError(f"source must be [b, m, c = 4], and is {list(source.shape)}")
        b = x.shape[0]
        if source.shape[0] != b:
            raise ValueError(f"axis b of source must be b = {b}, and is {source.shape[0]}")
        hidden = x.new_zeros(b, 4)
        memory = x.new_zeros(b, 4)
        seen = x.new_zeros(b, 4)
        zs = []
        contexts = []
        for x_t in x.unbind(1):
            hidden, memory = self.step(torch.cat((x_t, seen), -1), hidden, memory)
            seen = self.attend_to(hidden, source)
            zs.append(hidden)
            contexts.append(seen)
        return F.dropout(torch.cat((torch.stack(zs, 1), torch.stack(contexts, 1)), -1), 0.1, self.training)
