"""The finetune flow: one task per encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.finetuning import Outcome, Progress, run_job
from flows.finetuning_plan import FinetuneJob, plan_job
from flows.options import find_device
from pipelines.schema import Modality

finetune_task = task(
    name="finetune-encoder", task_run_name="finetune-{job.modality}-{job.corpus}", cache_policy=NO_CACHE
)(run_job)


@flow(name="finetune", validate_parameters=False)
def finetune_flow(job: FinetuneJob, progress: Progress | None = None, notice: Callable[[str], None] = print) -> Outcome:
    """Fine-tune the encoder of a job that a command made; a killed flow goes on after its last epoch."""
    return finetune_task(job, progress, notice)


@flow(name="finetune-encoder")
def finetune_encoder_flow(
    catalog: str,
    store: str,
    modality: Modality,
    corpus: str,
    base: str | None = None,
    features: str = "published",
    device: str = "auto",
) -> dict[str, Any]:
    """Plan and fine-tune on a node: what a deployment runs. The corpus lies where the catalog or the ingest says.

    Returns:
        Name and feature set of the encoder, validation UAR before and after.
    """
    outcome = finetune_flow(
        plan_job(catalog, store, modality, corpus, base=base, features=features, device=find_device(device))
    )
    return {"encoder": outcome.name, "feature_set": outcome.feature_set, "val_uar": outcome.about["val_uar"]}
