"""The finetune flow: one task per encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from merloco.flows.arguments import find_device
from merloco.flows.cli.console import note
from merloco.flows.finetune.plan import FinetuneJob, plan_job
from merloco.flows.finetune.service import FinetunedEncoder, Progress, run_job
from merloco.flows.tasks.catalog_names import CorpusName, FeatureSetName
from merloco.flows.tasks.display import corpus_tags, feature_tags, record_table, say_and_log, tag_flow_run
from merloco.pipelines.samples.schema import Modality


@task(name="finetune-encoder", task_run_name="finetune-{job.modality}-{job.corpus}", cache_policy=NO_CACHE)
def finetune_task(job: FinetuneJob, progress: Progress | None, notice: Callable[[str], None]) -> FinetunedEncoder:
    """Fine-tune one encoder."""
    outcome = run_job(job, progress, say_and_log(notice))
    done = "was fine-tuned before" if outcome.reused else f"fine-tuned, {len(outcome.about['history']) - 1} epochs"
    get_run_logger().info("encoder %s: %s, validation UAR %s", outcome.name, done, outcome.about["val_uar"])
    return outcome


@flow(name="finetune", flow_run_name="finetune {job.modality} {job.corpus}", validate_parameters=False)
def finetune_flow(
    job: FinetuneJob, progress: Progress | None = None, notice: Callable[[str], None] | None = None
) -> FinetunedEncoder:
    """Fine-tune the encoder of a job that a command made; a killed flow goes on after its last epoch."""
    tags = corpus_tags([job.corpus]) | feature_tags([job.features])
    tag_flow_run(tags)
    outcome = finetune_task.with_options(tags=tags)(job, progress, notice or note)
    scores = [{"encoder": outcome.name, "epoch": when, "UAR": 100 * v} for when, v in outcome.about["val_uar"].items()]
    record_table(f"finetuned-{outcome.name}", scores, "Validation UAR in percent before and after")
    return outcome


@flow(name="finetune-encoder", flow_run_name="finetune {modality} {corpus}")
def finetune_encoder_flow(
    catalog: str,
    store: str,
    modality: Modality,
    corpus: CorpusName,
    base: str | None = None,
    features: FeatureSetName = "published",
    device: str = "auto",
) -> dict[str, Any]:
    """Plan and fine-tune on a node: what a deployment runs. The corpus lies where the catalog or the ingest says.

    Returns:
        Name and feature set of the encoder, validation UAR before and after.

    Raises:
        UsageError: The catalog has no such corpus, feature set or encoder: said before any task.
    """
    job = plan_job(catalog, store, modality, corpus, base=base, features=features, device=find_device(device))
    tag_flow_run(corpus_tags([corpus]) | feature_tags([features]))
    outcome = finetune_flow(job)
    return {"encoder": outcome.name, "feature_set": outcome.feature_set, "val_uar": outcome.about["val_uar"]}
