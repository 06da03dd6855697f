"""Which weights a pass over text reads, and what it multiplies them with: seen while it runs, never guessed by name."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from kvbench.models.sizing import numbers_in, plain_tensors
from kvbench.models.tensor_parallel import local_part

PARTS = ("linear", "experts", "head", "embedding", "other", "unread")
TABLE_READS = frozenset({"embedding", "index_select", "gather", "index"})
COPIES = frozenset({"_to_copy", "clone"})
LARGEST_COPY = 1 << 24  # bytes: a copy in another type is followed, and kept alive for it
EXPERTS = re.compile(r"\bexperts\b")
UNSEEN = "torch's counter does not see products with weights in fewer bits, on other devices or in parts"


class PassWatch(TorchDispatchMode):
    """Watches one pass without a cache over `positions` tokens in all, of which `last` are the last of their sequence.

    Weights are recognised by their place in memory. Those that no operator names by it (quantised ones, ones that wait
    on another device) count as read when their module is called. Enter it under `torch.no_grad`: operators then arrive
    in the pieces that torch's FLOP counter knows. That counter's formulas are used, without its hooks in the modules,
    which some models do not bear.
    """

    def __init__(self, model: torch.nn.Module, positions: int, last: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self._positions, self._last = positions, last
        self._weights: dict[str, torch.Tensor] = {}
        self._paths: dict[str, str] = {}  # class and path of the module that holds a weight
        self._by_device: dict[str, list[tuple[int, int, str]]] = {}
        self._unseen: dict[str, torch.nn.Module] = {}
        output = getattr(model, "get_output_embeddings", lambda: None)()
        heads = {id(parameter) for parameter in output.parameters()} if output is not None else set()
        self._heads = set()
        counted: dict[int, str] = {}
        for path, module in model.named_modules():
            for own, parameter in module.named_parameters(recurse=False):
                name = f"{path}.{own}"
                if id(parameter) in counted:
                    continue
                counted[id(parameter)] = name
                # Of a weight that is shared out over ranks, what is multiplied here is this rank's part.
                self._weights[name] = held = local_part(parameter)
                self._paths[name] = f"{path} {type(module).__name__}"
                if id(parameter) in heads:
                    self._heads.add(name)
                if _is_plain(held):
                    self._note(held, name)
                else:
                    self._unseen[name] = module
        for places in self._by_device.values():
            places.sort()
        self._products: dict[str, int] = {}  # FLOPs
        self._tables: set[str] = set()
        self._touched: set[str] = set()
        self._copies: list[torch.Tensor] = []  # kept, so that no other tensor takes their place
        self._places = [weight.detach() for weight in self._weights.values() if _is_plain(weight)]  # kept likewise
        self._hooks: list[Any] = []
        self._depth = 0  # entered again for the pieces of an operator

    @property
    def sees_all(self) -> bool:
        """Whether every product that was made could be counted."""
        return not self._unseen.keys() & self._touched

    def __enter__(self) -> PassWatch:
        def note(name: str) -> Any:
            return lambda *_: self._touched.add(name)

        if not self._depth:
            self._hooks = [module.register_forward_pre_hook(note(name)) for name, module in self._unseen.items()]
        self._depth += 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if not self._depth:
            for hook in self._hooks:
                hook.remove()
            self._copies.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry and func is not torch.ops.prim.device.default:
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        result = func(*args, **kwargs)
        flops = 0
        if func._overloadpacket in flop_registry:
            flops = flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
            self.flops += flops
        if not func.is_view:
            self._read(func.overloadpacket._qualified_op_name.rpartition("::")[2], args, kwargs, result, flops)
        return result

    def _read(self, operator: str, args: Any, kwargs: Any, result: Any, flops: int) -> None:
        for place, value in enumerate(tree_iter((args, kwargs))):
            name = self._name_of(value) if isinstance(value, torch.Tensor) else None
            if name is None:
                continue
            self._touched.add(name)
            if flops and self._weights[name].ndim >= 2:
                self._products[name] = self._products.get(name, 0) + flops
            elif operator in TABLE_READS and place == 0:
                self._tables.add(name)
            elif operator in COPIES and isinstance(result, torch.Tensor):
                self._follow(result, name)

    def _follow(self, copy: torch.Tensor, name: str) -> None:
        if copy.ndim >= 2 and 0 < copy.nbytes <= LARGEST_COPY and _is_plain(copy):
            self._copies.append(copy)
            self._note(copy, name)
            self._by_device[str(copy.device)].sort()

    def _note(self, tensor: torch.Tensor, name: str) -> None:
        begin = tensor.data_ptr()
        self._by_device.setdefault(str(tensor.device), []).append((begin, begin + tensor.nbytes, name))

    def _name_of(self, tensor: torch.Tensor) -> str | None:
        """The weight in whose memory a tensor lies."""
        places = self._by_device.get(str(tensor.device))
        if not places or not _is_plain(tensor):
            return None
        begin = tensor.data_ptr()
        found = bisect_right(places, (begin, float("inf"), "")) - 1
        return places[found][2] if found >= 0 and begin < places[found][1] else None

    def parts(self) -> dict[str, dict[str, int]]:
        """Numbers and bytes of the weights by what the pass did with them, tied ones in one part.

        "linear": matrices that every token is multiplied with; "experts": those of which a token meets some; "head":
        those that the last position of each sequence alone was multiplied with, and the output projection; "embedding":
        tables of which a token reads a row; "other": norms, biases and the like; "unread": what the pass never came to,
        such as the parts for images or sound. `multiplied` are the numbers that took part in products, and `products`
        the multiplications of one token with a part, or of one position for the head: as many as its numbers, more
        where layers run several times, fewer for experts.
        """
        parts = {part: {"parameters": 0, "bytes": 0, "multiplied": 0, "products": 0} for part in PARTS}
        met = {self._expert_group(name) for name in self._touched} - {None}
        for name, weight in self._weights.items():
            part = self._part(name, weight, met)
            parts[part]["parameters"] += numbers_in(weight)
            parts[part]["bytes"] += sum(each.nbytes for each in plain_tensors(weight))
            if products := self._products_of(name, weight, part):
                parts[part]["products"] += products
                parts[part]["multiplied"] += numbers_in(weight)
        positions = {"linear": self._positions, "experts": self._positions, "head": self._last}
        for part, share in parts.items():
            share["products"] //= 2 * positions.get(part, 1)
        return parts

    def _part(self, name: str, weight: torch.Tensor, met: set[Any]) -> str:
        group = self._expert_group(name)
        if group is not None:
            return "experts" if group in met else "unread"
        if name not in self._touched:
            return "unread"
        if name in self._heads or self._is_of_last(name, weight):
            return "head"
        if name in self._products or (name in self._unseen and weight.ndim >= 2 and not self._is_table(name)):
            return "linear"
        return "embedding" if name in self._tables or self._is_table(name) else "other"

    def _products_of(self, name: str, weight: torch.Tensor, part: str) -> int:
        if part not in ("linear", "experts", "head") or (name not in self._unseen and name not in self._products):
            return 0
        counted = self._products.get(name)
        if counted is None:
            counted = 2 * numbers_in(weight) * (self._last if part == "head" else self._positions)
        elif part == "head" and not self._is_of_last(name, weight):  # logits of every position were computed
            counted = counted * self._last // self._positions
        return counted

    def _is_of_last(self, name: str, weight: torch.Tensor) -> bool:
        alone = 2 * weight.numel() * self._last
        return self._positions > self._last and self._products.get(name) == alone

    def _is_table(self, name: str) -> bool:
        return "Embedding" in self._paths[name].split(" ")[1] and name in self._unseen

    def _expert_group(self, name: str) -> str | None:
        """The place of the experts that a weight belongs to; of several groups in a model one may never be met."""
        path, kind = self._paths[name].split(" ")
        if (found := EXPERTS.search(path)) is not None:
            return path[: found.end()]
        return path if kind.endswith("Experts") else None


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is numbers at an address, and no wrapper, shard, code or promise."""
    kind = type(tensor.data) if isinstance(tensor, torch.nn.Parameter) else type(tensor)
    return (
        kind in (torch.Tensor, torch.nn.Parameter)
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.device.type != "meta"
        and tensor.layout is torch.strided
        and (tensor.dtype.itemsize > 1 or not isinstance(tensor, torch.nn.Parameter))
    )
