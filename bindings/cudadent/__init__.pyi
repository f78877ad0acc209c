from os import PathLike
from types import TracebackType
from typing import (
    Any,
    Callable,
    Iterable,
    Literal,
    Mapping,
    Optional,
    Protocol,
    TypeVar,
    Union,
    overload,
)

__version__: str

# An array of NumPy or CuPy, a tensor of PyTorch, or anything with __dlpack__,
# __cuda_array_interface__ or __array_interface__.
_Tensor = Any
_T = TypeVar("_T")
_DataType = Any  # "bf16", "float32", numpy.float32, torch.float16, …
_Stream = Any  # an address, or a stream of PyTorch or CuPy
_Value = Union[bool, int, float, str]
_Path = Union[str, PathLike[str]]
_OnMiss = Literal["tune", "nearest", "background", "fail"]
_Provenance = Literal[
    "tuned", "cached", "shipped", "neighbour", "nearest", "other device", "predicted", "default"
]
_Isolation = Literal["auto", "worker", "in_process"]
_Budget = Union[float, str, "Budget", None]
_Activation = Literal["none", "relu", "gelu", "silu"]

class Error(RuntimeError):
    code: str
    detail: str

class InvalidArgument(Error, ValueError): ...

class Budget:
    def __init__(
        self,
        seconds: Optional[float] = None,
        *,
        trials: int = 0,
        patience: int = 0,
        until_converged: bool = True,
    ) -> None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def trials(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def until_converged(self) -> bool: ...

class Winner:
    @property
    def template(self) -> str: ...
    @property
    def configuration(self) -> dict[str, _Value]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def provenance(self) -> _Provenance: ...
    @property
    def predicted_seconds(self) -> float: ...

class Explanation:
    @property
    def problem(self) -> str: ...
    @property
    def winner(self) -> Winner: ...

class Trial:
    @property
    def template(self) -> str: ...
    @property
    def configuration(self) -> dict[str, _Value]: ...
    @property
    def status(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def samples(self) -> list[float]: ...
    @property
    def median(self) -> float: ...
    @property
    def spread(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def compile_seconds(self) -> float: ...
    @property
    def from_cache(self) -> bool: ...

    @property
    def figures(self) -> dict[str, float]: ...

class CandidateSpace:
    def __len__(self) -> int: ...
    def template(self, candidate: int) -> str: ...
    def configuration(self, candidate: int) -> dict[str, _Value]: ...
    def find(self, template: str, configuration: Mapping[str, _Value]) -> Optional[int]: ...
    def neighbours(self, candidate: int) -> list[int]: ...
    def predicted_seconds(self, candidate: int) -> Optional[float]: ...

class _Search(Protocol):  # and maybe converged(self) -> bool
    def begin(self, space: CandidateSpace, seed: int, /) -> Any: ...
    def ask(self, count: int, /) -> Iterable[int]: ...
    def tell(self, candidate: int, value: Optional[float], /) -> Any: ...

class Measurement:
    @property
    def problem(self) -> str: ...
    @property
    def trial(self) -> Trial: ...
    @property
    def binary_bytes(self) -> int: ...
    @property
    def registers(self) -> int: ...

class _Observer(Protocol):  # and maybe before(self, measurement), during(self, measurement)
    def after(self, measurement: Measurement, /) -> dict[str, float]: ...

_Strategy = Union[str, _Search]
_Observers = Union[str, _Observer, Iterable[Union[str, _Observer]]]

class TuneProgress:
    @property
    def measured(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def candidates(self) -> int: ...
    @property
    def elapsed(self) -> float: ...
    @property
    def best(self) -> float: ...
    @property
    def phase(self) -> str: ...

class TuneResult:
    @property
    def problem(self) -> str: ...
    @property
    def winner(self) -> Winner: ...
    @property
    def seconds(self) -> float: ...
    @property
    def default_seconds(self) -> float: ...
    @property
    def speedup(self) -> float: ...
    @property
    def flops(self) -> float: ...
    @property
    def bytes(self) -> float: ...
    @property
    def flops_per_second(self) -> float: ...
    @property
    def bytes_per_second(self) -> float: ...
    @property
    def trials(self) -> list[Trial]: ...
    @property
    def candidates(self) -> int: ...
    @property
    def elapsed(self) -> float: ...
    @property
    def enumerate_seconds(self) -> float: ...
    @property
    def compile_seconds(self) -> float: ...
    @property
    def measure_seconds(self) -> float: ...
    @property
    def verify_seconds(self) -> float: ...
    @property
    def search_seconds(self) -> float: ...
    @property
    def idle_seconds(self) -> float: ...
    @property
    def prepare_seconds(self) -> float: ...
    @property
    def ruled_out(self) -> int: ...
    @property
    def isolated(self) -> bool: ...
    @property
    def worker_restarts(self) -> int: ...
    @property
    def stopped_by(self) -> str: ...

class Operator:
    __name__: str
    @property
    def name(self) -> str: ...
    @property
    def tensors(self) -> tuple[str, ...]: ...
    @property
    def options(self) -> dict[str, _Value]: ...
    def __call__(
        self,
        *tensors: Optional[_Tensor],
        out: Optional[_Tensor] = None,
        stream: Optional[_Stream] = None,
        **arguments: Any,
    ) -> Any: ...
    def prepare(self, *tensors: Optional[_Tensor], **arguments: Any) -> Explanation: ...

class _Gemm(Operator):
    @overload  # type: ignore[override]
    def __call__(
        self,
        a: _Tensor,
        b: _Tensor,
        bias: Optional[_Tensor] = None,
        *,
        scale_a: Optional[_Tensor] = None,
        scale_b: Optional[_Tensor] = None,
        residual: Optional[_Tensor] = None,
        out: _T,
        activation: _Activation = "none",
        layout_a: Literal["mk", "km"] = "mk",
        layout_b: Literal["nk", "kn"] = "nk",
        precision: Literal["full", "tf32"] = "full",
        scaling: Literal["tensor", "block"] = "tensor",
        out_dtype: Optional[_DataType] = None,
        stream: Optional[_Stream] = None,
    ) -> _T: ...
    @overload
    def __call__(
        self,
        a: _T,
        b: _Tensor,
        bias: Optional[_Tensor] = None,
        *,
        scale_a: Optional[_Tensor] = None,
        scale_b: Optional[_Tensor] = None,
        residual: Optional[_Tensor] = None,
        out: None = None,
        activation: _Activation = "none",
        layout_a: Literal["mk", "km"] = "mk",
        layout_b: Literal["nk", "kn"] = "nk",
        precision: Literal["full", "tf32"] = "full",
        scaling: Literal["tensor", "block"] = "tensor",
        out_dtype: Optional[_DataType] = None,
        stream: Optional[_Stream] = None,
    ) -> _T: ...

class _RmsNorm(Operator):
    @overload  # type: ignore[override]
    def __call__(
        self,
        x: _T,
        weight: _Tensor,
        residual: Optional[_Tensor] = None,
        *,
        residual_out: None = None,
        out: Optional[_T] = None,
        eps: float = 1e-6,
        stream: Optional[_Stream] = None,
    ) -> _T: ...
    @overload
    def __call__(
        self,
        x: _T,
        weight: _Tensor,
        residual: Optional[_Tensor] = None,
        *,
        residual_out: Union[_T, Literal[True]],
        out: Optional[_T] = None,
        eps: float = 1e-6,
        stream: Optional[_Stream] = None,
    ) -> tuple[_T, _T]: ...

class _Attention(Operator):
    @overload  # type: ignore[override]
    def __call__(
        self,
        q: _T,
        k: _Tensor,
        v: _Tensor,
        out: Optional[_T] = None,
        lse: None = None,
        *,
        causal: bool = False,
        scale: Optional[float] = None,
        window: int = -1,
        softcap: float = 0.0,
        return_lse: Literal[False] = False,
        cu_queries: Optional[_Tensor] = None,
        cu_keys: Optional[_Tensor] = None,
        block_table: Optional[_Tensor] = None,
        kv_lengths: Optional[_Tensor] = None,
        max_queries: Optional[int] = None,
        max_keys: Optional[int] = None,
        stream: Optional[_Stream] = None,
    ) -> _T: ...
    @overload
    def __call__(
        self,
        q: _T,
        k: _Tensor,
        v: _Tensor,
        out: Optional[_T] = None,
        lse: Optional[_T] = None,
        *,
        causal: bool = False,
        scale: Optional[float] = None,
        window: int = -1,
        softcap: float = 0.0,
        return_lse: Literal[True],
        cu_queries: Optional[_Tensor] = None,
        cu_keys: Optional[_Tensor] = None,
        block_table: Optional[_Tensor] = None,
        kv_lengths: Optional[_Tensor] = None,
        max_queries: Optional[int] = None,
        max_keys: Optional[int] = None,
        stream: Optional[_Stream] = None,
    ) -> tuple[_T, _T]: ...
    @overload
    def __call__(
        self,
        q: _T,
        k: _Tensor,
        v: _Tensor,
        out: Optional[_T] = None,
        *,
        lse: Union[_T, Literal[True]],
        causal: bool = False,
        scale: Optional[float] = None,
        window: int = -1,
        softcap: float = 0.0,
        return_lse: bool = False,
        cu_queries: Optional[_Tensor] = None,
        cu_keys: Optional[_Tensor] = None,
        block_table: Optional[_Tensor] = None,
        kv_lengths: Optional[_Tensor] = None,
        max_queries: Optional[int] = None,
        max_keys: Optional[int] = None,
        stream: Optional[_Stream] = None,
    ) -> tuple[_T, _T]: ...

attention: _Attention
gemm: _Gemm
rms_norm: _RmsNorm

class Runtime:
    def __init__(
        self,
        device: str = "auto",
        *,
        cache: Optional[_Path] = None,
        template_paths: Union[_Path, Iterable[_Path]] = (),
        on_miss: _OnMiss = "tune",
        budget: _Budget = None,
        strategy: _Strategy = "auto",
        observers: _Observers = (),
        objective: str = "seconds",
        seed: int = 0,
        layers: Union[_Path, Iterable[_Path]] = (),
        shipped_winners: bool = True,
        isolation: _Isolation = "auto",
        wait_for_others: float = 600.0,
    ) -> None: ...
    attention: _Attention
    gemm: _Gemm
    rms_norm: _RmsNorm
    def __getattr__(self, name: str) -> Operator: ...
    def op(self, name: str, **options: _Value) -> Operator: ...
    def tune(
        self,
        op: str,
        problem: Optional[Mapping[str, Any]] = None,
        *,
        budget: _Budget = None,
        strategy: _Strategy = "auto",
        observers: _Observers = (),
        objective: str = "seconds",
        seed: int = 0,
        on_progress: Optional[Callable[[TuneProgress], Any]] = None,
        templates: Union[str, Iterable[str]] = (),
        fresh: bool = False,
        compile_workers: int = 0,
        isolation: Optional[_Isolation] = None,
        compile_timeout: float = 60.0,
        run_timeout: float = 10.0,
        **more: Any,
    ) -> TuneResult: ...
    def winner(
        self, op: str, problem: Optional[Mapping[str, Any]] = None, **more: Any
    ) -> Optional[Winner]: ...
    def operators(self) -> list[str]: ...
    @property
    def device_name(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def __enter__(self) -> Runtime: ...
    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> None: ...

def op(name: str, **options: _Value) -> Operator: ...
def operators() -> list[str]: ...
def tune(
    op: str,
    problem: Optional[Mapping[str, Any]] = None,
    *,
    device: Optional[str] = None,
    budget: _Budget = None,
    strategy: _Strategy = "auto",
    observers: _Observers = (),
    objective: str = "seconds",
    seed: int = 0,
    on_progress: Optional[Callable[[TuneProgress], Any]] = None,
    templates: Union[str, Iterable[str]] = (),
    fresh: bool = False,
    compile_workers: int = 0,
    isolation: Optional[_Isolation] = None,
    compile_timeout: float = 60.0,
    run_timeout: float = 10.0,
    **more: Any,
) -> TuneResult: ...
def set_default_options(
    *,
    device: str = "auto",
    cache: Optional[_Path] = None,
    template_paths: Union[_Path, Iterable[_Path]] = (),
    on_miss: _OnMiss = "tune",
    budget: _Budget = None,
    strategy: _Strategy = "auto",
    observers: _Observers = (),
    objective: str = "seconds",
    seed: int = 0,
    layers: Union[_Path, Iterable[_Path]] = (),
    shipped_winners: bool = True,
    isolation: _Isolation = "auto",
    wait_for_others: float = 600.0,
) -> None: ...
