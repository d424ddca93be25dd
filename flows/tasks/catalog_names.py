"""Names that a deployment takes: those of its catalog, so that a server refuses another before it makes a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from merloco.features.catalog import default_catalog, load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import MODALITIES


@dataclass(frozen=True, slots=True)
class _NameIn:
    """Lists the names of a section in the JSON schema that `prefect deploy` sends to the server.

    Python's own check is left to the flow, which reads the catalog that it is given.
    """

    section: Literal["corpora", "feature_sets", "experiments", "views"]
    beside: tuple[str, ...] = ()
    """Names that no catalog has to say."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        try:
            names = [*self.beside, *getattr(load_catalog(default_catalog()), self.section)]
        except DataError:  # no catalog here, or a broken one: the flow says so when it runs
            return schema
        return {**schema, "enum": names}


CorpusName = Annotated[str, _NameIn("corpora")]
FeatureSetName = Annotated[str, _NameIn("feature_sets")]
ExperimentName = Annotated[str, _NameIn("experiments")]
ModalityName = Annotated[str, _NameIn("views", MODALITIES)]
"""Or a view, where a modality has several."""
