"""The store as scripts and notebooks use it: ingest, extraction, query, matrices, training, predictions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from merloco.features.cards.coverage import coverage_table
from merloco.features.query.matrices import load_matrices
from merloco.features.runs import find_run
from merloco.features.store import FeatureStore
from merloco.flows.arguments import corpus_root, device_list, find_device
from merloco.flows.experiments.plan import Plan, RunSummary, experiment_plan, loco_plan, train_plan
from merloco.flows.experiments.prediction import Prediction, predict_sources
from merloco.flows.experiments.prediction_inputs import find_inputs
from merloco.flows.experiments.service import execute
from merloco.flows.extract.jobs import MAX_FAILURES
from merloco.flows.extract.service import plan_extraction
from merloco.flows.extract.shard_queue import ShardQueue, run_here
from merloco.flows.results.search import search_table
from merloco.flows.results.system_comparison import compare_systems, comparison_rows, rank_systems, ranking_rows
from merloco.flows.results.systems import find_systems, require_distinct
from merloco.flows.results.tables import plain_table
from merloco.flows.tasks.attempts import attempt_all
from merloco.models.fusion.dataset import Dataset
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.audit import Audit
from merloco.pipelines.samples.ingest import ingest_corpus

if TYPE_CHECKING:
    import duckdb


class Arrays(NamedTuple):
    """Rows for scikit-learn."""

    X: np.ndarray
    """float32 (N, D): the vectors of all modalities side by side, zeros where one is missing."""
    y: np.ndarray
    """(N,) str: emotions."""
    mask: np.ndarray
    """bool (N, modalities): what each row has, in the order audio, video, text."""
    groups: np.ndarray
    """(N,) str: dialogues, for `GroupKFold` and its like."""


class Store(FeatureStore):
    """A feature store that trains as well; what it trains is where the command line finds it.

    Example:
        >>> from merloco.flows.api import Store
        >>> store = Store.open("demo/store")
        >>> samples = store.sql("select * from samples where corpus = ?", ["meld"]).df()
    """

    def ingest(
        self, corpora: Sequence[str], roots: Mapping[str, str | Path] = MappingProxyType({})
    ) -> dict[str, Audit]:
        """Read corpora into samples tables, as `merloco ingest` does; an unchanged release is not read again.

        Args:
            corpora: Names.
            roots: Corpus -> folder of its release, where that is not the catalog's `root`.

        Returns:
            An audit per corpus: counts that add up, and every row that is out with its reason.

        Raises:
            DataError: A corpus has no root, or cannot be read; the others are ingested.
        """
        self.keep_catalog()
        given = {name: str(root) for name, root in roots.items()}
        folders = {name: corpus_root(self.catalog, name, given) for name in corpora}
        entries = {name: self.catalog.corpus(name) for name in corpora}
        return attempt_all(
            {name: partial(ingest_corpus, name, entries[name], folders[name], self.root) for name in corpora}
        )

    def extract(
        self,
        features: str = "light",
        corpora: Sequence[str] | None = None,
        modalities: Sequence[str] | None = None,
        device: str = "auto",
    ) -> pa.Table:
        """Encode samples into shards, as `merloco extract` does; only what is missing is done.

        Args:
            features: A feature set.
            corpora: Names; all that are ingested by default.
            modalities: Some of the feature set's; all by default.
            device: `cpu`, `cuda` (every GPU), `cuda:0,cuda:1`, ... or `auto`.

        Returns:
            A row per view and corpus: samples, vectors that are there, and the reasons for the rest.

        Raises:
            DataError: No such samples, no room, or too many samples failed; what is done stays.
        """
        views = list(self.views(features, modalities).values())
        _, jobs = plan_extraction(self, str(self.catalog.file), views, corpora, {}, device)
        if jobs:
            run_here(ShardQueue(self, jobs, MAX_FAILURES), device_list(device))
        return pa.Table.from_pylist(coverage_table(self, views, self.corpora(corpora)))

    def dataset(
        self, features: str = "light", corpora: Sequence[str] | None = None, modalities: Sequence[str] | None = None
    ) -> Dataset:
        """Features, labels and what each row belongs to, as training takes them.

        Args:
            features: A feature set.
            corpora: Names; all that are ingested by default.
            modalities: Some of the feature set's; all by default.

        Raises:
            DataError: A corpus has no samples or no features.
        """
        return load_matrices(self, features, self.corpora(corpora), modalities)

    def matrices(
        self,
        features: str = "light",
        corpora: Sequence[str] | None = None,
        split: str | None = None,
        modalities: Sequence[str] | None = None,
    ) -> Arrays:
        """Rows with one emotion and at least one modality, for scikit-learn.

        Args:
            features: A feature set.
            corpora: Names; all that are ingested by default.
            split: `train`, `val` or `test`; all by default.
            modalities: Some of the feature set's; all by default.

        Example:
            >>> from sklearn.linear_model import LogisticRegression
            >>> X, y, mask, groups = store.matrices("light", ["meld"], split="train")
            >>> model = LogisticRegression(max_iter=1000).fit(X, y)
        """
        data = self.dataset(features, corpora, modalities)
        rows = data.rows(tuple(self.corpora(corpora)), split)
        return Arrays(
            X=np.concatenate([matrix[rows] for matrix in data.features.values()], axis=1),
            y=np.array(data.classes)[data.label[rows]],
            mask=np.stack([there[rows] for there in data.present.values()], axis=1),
            groups=data.dialogue[rows],
        )

    def train(
        self,
        train: Sequence[str],
        test: Sequence[str],
        features: str = "light",
        modalities: Sequence[str] | None = None,
        seeds: Sequence[int] = (0,),
        device: str = "auto",
        **settings: Any,
    ) -> pa.Table:
        """Train on some corpora and test on some, as `merloco train` does.

        Args:
            train: Corpora to train and to validate on.
            test: Corpora to test on.
            features: A feature set.
            modalities: Some of the feature set's; all by default.
            seeds: A run for each.
            device: `cpu`, `cuda`, `cuda:1`, ... or `auto`.
            **settings: Training settings that differ from the catalog's, for example `epochs=50`.

        Returns:
            A row per run and tested corpus: run, corpus, seed, scores as shares, intervals, reference scores.

        Example:
            >>> scores = store.train(["meld"], ["meld"], modalities=["text"], epochs=5)
            >>> scores.column_names[:3]
            ['run', 'train', 'corpus']
        """
        return plain_table(self._run(train_plan(train, test, features, modalities, seeds, settings), device))

    def loco(
        self,
        corpora: Sequence[str] | None = None,
        features: str = "light",
        seeds: Sequence[int] = (0, 1, 2),
        device: str = "auto",
        modalities: Sequence[str] | None = None,
        maps: Mapping[str, str] = MappingProxyType({}),
        **settings: Any,
    ) -> pa.Table:
        """Leave one corpus out, for each of them, as `merloco loco` does; for the arguments see `train`."""
        plan = loco_plan(self.corpora(corpora), features, modalities, seeds, settings, maps=maps)
        return plain_table(self._run(plan, device))

    def experiment(
        self, name: str, seeds: Sequence[int] | None = None, device: str = "auto", **changes: Any
    ) -> pa.Table:
        """Run an experiment of the catalog, as `merloco experiment` does; for the table see `train`.

        Of a search it has a row per setting that was tried, the best on validation first.

        Args:
            name: The experiment.
            seeds: A run for each; the experiment's own by default.
            device: `cpu`, `cuda`, `cuda:1`, ... or `auto`.
            **changes: `corpora`, `features`, `modalities`, `maps`, `overrides` (training settings) in place of its own.
        """
        plan = experiment_plan(self, name, seeds, **changes)
        outcomes = self._run(plan, device)
        return search_table(outcomes) if plan.protocol == "search" else plain_table(outcomes, own=True)

    def predictions(self, run: str) -> duckdb.DuckDBPyRelation:
        """What a run says of its test rows: sample_id, truth, prediction, probabilities, contributions.

        Raises:
            DataError: The store has no such run.
        """
        find_run(self.root, run)
        return self.sql("select * exclude (run) from predictions where run = ?", [run])

    def compare(self, *systems: str, metrics: Sequence[str] = ("uar",), experiment: str | None = None) -> pa.Table:
        """Compare systems over the folds, seeds and utterances that all have, as `merloco compare` does.

        Args:
            systems: Each an experiment, `setting=value` (several joined by commas), or a run.
            metrics: `uar`, `macro_f1`, `weighted_f1`, `accuracy`.
            experiment: Only its runs; all of the store by default.

        Returns:
            Of two systems a row per fold, for the mean over them, and per class: difference, interval, p. Of more a
            row per system, best first, with the group of those that do not differ. What was left out is a warning.

        Raises:
            DataError: A name means no run or runs of several settings, or nothing can be paired.
        """
        found = find_systems(self.root, systems, experiment)
        require_distinct(found)
        if len(found) == 2:
            comparison = compare_systems(found, metrics)
            rows, notes = comparison_rows(comparison), comparison.notes
        else:
            ranking = rank_systems(found, metrics)
            rows, notes = ranking_rows(ranking), ranking.notes
        for sentence in notes:
            warnings.warn(sentence, stacklevel=2)
        return pa.Table.from_pylist(rows)

    def predict(
        self, files: Sequence[str | Path] = (), text: str | None = None, run: str | None = None, device: str = "auto"
    ) -> list[Prediction | str]:
        """Emotions of new files, of folders of them, or of a sentence, as `merloco predict` gives them.

        Args:
            files: Video, audio or .txt files, or folders of them.
            text: A sentence, or the transcript of the one file.
            run: Name of a run; the newest of `loco` and `train` by default.
            device: `cpu`, `cuda`, `cuda:1`, ... or `auto`.

        Returns:
            A prediction, or the sentence that says why there is none, for each file.

        Raises:
            DataError: A name is neither file nor folder, or the store has no such run.
        """
        found = find_inputs([Path(file) for file in files], text)
        if found.problems:
            raise DataError("; ".join(found.problems))
        folder = find_run(self.root, run, trained=True, default=("loco", "train"))
        return predict_sources(self, folder, found.inputs, find_device(device))

    def _run(self, plan: Plan, device: str) -> list[RunSummary]:
        return execute(self, plan, device=find_device(device))
