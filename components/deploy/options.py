"""Options of the target `kserve`."""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.core.errors import UserError
from components.core.inference_service import SERVICE_ACCOUNT
from components.core.layout import MODEL_NAME
from components.core.validation import first_problem

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")]
RuntimeName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?$")]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class KServeOptions(BaseModel):
    """Where and how the InferenceService runs. The defaults are the names that manifests/ uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: DnsLabel = Field(default=MODEL_NAME, description="namespace of the InferenceService")
    name: DnsLabel = Field(default=MODEL_NAME, description="name of the InferenceService")
    runtime: RuntimeName = Field(default=MODEL_NAME, description="ServingRuntime whose copy runs the model")
    service_account: DnsLabel = Field(default=SERVICE_ACCOUNT, description="account with the store's secret")
    storage_container: Literal[""] | DnsLabel = Field(
        default=MODEL_NAME, description="ClusterStorageContainer that fetches the model; empty: KServe's own choice"
    )
    storage_uri: str = Field(
        default="",
        pattern=r"^$|^[a-z0-9+]+://[^\s]*\{version\}[^\s]*$",
        description="where KServe finds a version if not in the models bucket, with {version}, for example "
        "oci+native://registry.example/bin-counter-model:{version}",
    )
    mode: Literal["Standard", "Knative"] = Field(default="Standard", description="KServe's deployment mode")
    canary_percent: int = Field(default=0, ge=0, le=99, description="share of traffic a new version takes first")
    canary_seconds: Seconds = Field(default=300, description="how long it has that share before it takes over")
    drain_seconds: Seconds = Field(default=10, description="pause after the share is taken, until gateways know")
    take_over: bool = Field(default=False, description="take fields that another tool manages")
    ready_seconds: Seconds = Field(default=900, description="longest wait for a version to be ready")
    schedule_seconds: Seconds = Field(default=300, description="longest wait for a node that fits")
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = Field(default=2, description="pause between two looks")
    address: str = Field(
        default="",
        description="address of a service where its own cannot be reached, with {namespace} and {service}, for example "
        "http://localhost:8001/api/v1/namespaces/{namespace}/services/{service}:80/proxy",
    )

    @classmethod
    def parse(cls, text: str) -> "KServeOptions":
        """Read a JSON object of options. Raises UserError naming the first bad one."""
        try:
            return cls.model_validate(json.loads(text or "{}"))
        except json.JSONDecodeError as error:
            raise UserError(f'The deploy options are not JSON ({error}); write {{"namespace": "models"}}.') from error
        except ValidationError as error:
            problem = first_problem(error)
            where = problem.where or "the whole"
            if problem.unknown:
                names = ", ".join(cls.model_fields)
                raise UserError(f"There is no deploy option '{where}'; there are {names}.") from error
            raise UserError(f"The deploy option {where} cannot be used: {problem.message}.") from error
