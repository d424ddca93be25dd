"""The published training loop, rebuilt as its users run it: what the trainer is measured against.

One pickle of three torch tensors per utterance, read anew in every pass by a DataLoader in the training process (or, as
the kindest reading of it, features that lie in memory); a pass of its own for the class weights; the network as the
paper writes it; torch's default Adam; after every step its loss and predictions to numpy; after every epoch
scikit-learn's scores of the training and validation rows; the best weights to disk. One run at a time.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from merloco.models.fusion.dataset import Dataset as Rows
from merloco.models.fusion.gated import ORDER as MODALITIES
from merloco.models.fusion.spec import RunSpec


class Utterances(Dataset):
    """One pickle per utterance: a (1, D) tensor per modality, and the label."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, int]:
        with self.paths[index].open("rb") as stream:
            found = pickle.load(stream)
        audio, video, text = (torch.FloatTensor(found[f"{m}_features"].cpu()[0]) for m in MODALITIES)
        return audio, video, text, found["true_label"]


class InMemory(Dataset):
    """The same utterances without files."""

    def __init__(self, data: Rows) -> None:
        self.features = [torch.from_numpy(data.features[m]) for m in MODALITIES]
        self.labels = data.label.tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, int]:
        audio, video, text = (feature[index] for feature in self.features)
        return audio, video, text, self.labels[index]


def write_pickles(data: Rows, folder: Path) -> list[Path]:
    """Files of all rows, in their order."""
    folder.mkdir()
    paths = []
    for i in range(len(data.label)):
        tensors = {f"{m}_features": torch.from_numpy(f[i : i + 1].copy()) for m, f in data.features.items()}
        paths.append(folder / f"{i:06d}.pickle")
        paths[-1].write_bytes(pickle.dumps({**tensors, "true_label": int(data.label[i])}))
    return paths


class Gate(nn.Module):
    """One gated feature layer, its three products one by one."""

    def __init__(self, first: int, second: int, width: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(first, width))
        self.second = nn.Parameter(torch.empty(second, width))
        self.both = nn.Parameter(torch.empty(first + second, width))
        for weight in self.parameters():
            nn.init.xavier_normal_(weight)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        share = torch.softmax(torch.cat([first, second], dim=1) @ self.both, dim=1)
        return share * torch.tanh(first @ self.first) + (1 - share) * torch.tanh(second @ self.second)


class Fusion(nn.Module):
    """The paper's network."""

    def __init__(self, widths: dict[str, int], gated: int, classes: int, dropout: float) -> None:
        super().__init__()
        audio, video, text = (widths[m] for m in MODALITIES)
        self.audio, self.video, self.text = (nn.Linear(width, width) for width in (audio, video, text))
        self.audio_video, self.video_text, self.text_audio = (
            Gate(a, b, gated) for a, b in ((audio, video), (video, text), (text, audio))
        )
        self.dropout = nn.Dropout(dropout)
        self.fused, self.classifier = nn.Linear(3 * gated, gated), nn.Linear(gated, classes)

    def forward(self, audio: Tensor, video: Tensor, text: Tensor) -> Tensor:
        a, v, t = self.dropout(self.audio(audio)), self.dropout(self.video(video)), self.dropout(self.text(text))
        gates = torch.cat([self.audio_video(a, v), self.video_text(v, t), self.text_audio(t, a)], dim=1)
        return self.classifier(self.dropout(self.fused(torch.relu(gates))))


def published_run(
    data: Rows, utterances: Dataset, spec: RunSpec, epochs: int, saved: Path, device: str = "cpu"
) -> None:
    """Train one run on utterances in the order of the rows and save its best weights."""
    config = spec.config
    torch.manual_seed(spec.seed)
    train, val = (
        DataLoader(Subset(utterances, rows.tolist()), batch_size=config.batch_size, shuffle=shuffle)
        for rows, shuffle in ((spec.train_rows, True), (spec.val_rows, False))
    )
    widths = {m: data.features[m].shape[1] for m in MODALITIES}
    network = Fusion(widths, config.gated_dim, len(data.classes), config.dropout).to(device)
    labels = np.array([int(label) for *_, batch in train for label in batch])
    weights = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    criterion = nn.CrossEntropyLoss(weight=torch.FloatTensor(weights).to(device))
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    best = -1.0
    for _ in range(epochs):
        network.train()
        _epoch(network, train, criterion, optimizer, device)
        network.eval()
        with torch.no_grad():
            uar = _epoch(network, val, criterion, None, device)
        if uar > best:
            best = uar
            torch.save(network.state_dict(), saved)


def _epoch(
    network: Fusion, loader: DataLoader, criterion: nn.Module, optimizer: torch.optim.Optimizer | None, device: str
) -> float:
    """One pass: training where there is an optimizer; the UAR."""
    truth: list[int] = []
    said: list[int] = []
    total = 0.0
    for audio, video, text, label in loader:
        if optimizer:
            optimizer.zero_grad()
        logits = network(audio.to(device), video.to(device), text.to(device))
        loss = criterion(logits, label.to(device))
        if optimizer:
            loss.backward()
            optimizer.step()
        said.extend(logits.argmax(dim=1).cpu().numpy())
        truth.extend(label.numpy())
        total += loss.item() * len(label)
    accuracy_score(truth, said)
    for average in ("macro", "weighted"):
        f1_score(truth, said, average=average, zero_division=0)
    return float(recall_score(truth, said, average="macro", zero_division=0))
