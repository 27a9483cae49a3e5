"""Checks the program inside a torch.export archive before torch builds Python code from it.

`torch.export.load` trusts its file. Besides unpickling, torch 2.13 turns parts of models/model.json into code:
a node's `target` is looked up as any attribute under `torch` (torch.os.system), `expr_str` goes through sympy's
eval, `guards_code` and every name become Python source that is executed, and tree specs import modules by name.
So each text in the document is checked against what an honest export writes, and what serving has no use for is
dropped. Schema: torch/_export/serde/schema.py, major version 8.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any, Final

_NAME: Final = re.compile(r"[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")  # "" and -Infinity among them
_OPERATORS: Final = re.compile(
    r"torch\.ops\.(aten|prims|quantized|quantized_decomposed)\.(?P<op>\w+)\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|associative_scan|invoke_subgraph"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|lshift|rshift|getitem)"
    r"|math\.(trunc|ceil|floor|sqrt)"
    r"|torch\.(_sym_sqrt|sym_(not|int|float|ite|max|min|sqrt|sum))",
    re.ASCII,
)
# Operators that read or write files by name.
FILE_OPERATORS: Final = ("save", "from_file", "_save", "load")
_TREES: Final = {
    "builtins.tuple": False,
    "builtins.list": False,
    "builtins.dict": True,
    "collections.OrderedDict": True,
    "torch.fx.immutable_collections.immutable_list": False,
    "torch.fx.immutable_collections.immutable_dict": True,
}
# sympy's and torch's functions of sizes, as sympy's srepr writes them.
_FUNCTIONS: Final = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|Abs|floor|ceiling|Piecewise|ExprCondPair|Equality"
    "|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not|FloorDiv|ModularIndexing|Where"
    "|PythonMod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv"
    "|IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
_WORD: Final = re.compile(r"[A-Za-z0-9.+-][A-Za-z0-9_.+-]*")  # a symbol or a number; no dunder
_ARITHMETIC: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_SIGNS: Final = (ast.USub, ast.UAdd)
_COMPARISONS: Final = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_CUSTOM: Final = ("as_custom_obj", "custom_obj")
_FREE_TEXT: Final = ("as_string", "as_strings")  # reach operators as quoted constants only


class UnsafeProgramError(ValueError):
    """The document holds what no honest export of a servable model holds."""


def checked_program(text: bytes) -> dict[str, Any]:
    """Return the document of models/model.json, made sure of and without what serving does not need.

    Raises:
        UnsafeProgramError: names the field and what is wrong with it.
    """
    try:
        document = json.loads(text)
        module = document["graph_module"]
        graph = module["graph"]
        calls = module["module_call_graph"]
        document["guards_code"] = []
        document["torch_version"] = ""
        module["metadata"] = {}
        module["treespec_namedtuple_fields"] = {}
        module["module_call_graph"] = [call | {"signature": None} for call in calls]
        # The first call is the whole program: the trees of its arguments and results are needed.
        module["module_call_graph"][0] = calls[0]
        _drop_metadata(graph)
        _check("", document)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, UnsafeProgramError):
            raise
        raise UnsafeProgramError(f"models/model.json is no exported program: {error!r}") from None
    return dict(document)


def checked_payloads(text: bytes) -> None:
    """Check a table of weights or constants: raw tensors only.

    Raises:
        UnsafeProgramError: an entry is a pickle, or names a file elsewhere.
    """
    try:
        config = json.loads(text)["config"]
        for name, entry in config.items():
            if entry["use_pickle"] is not False or not re.fullmatch(
                r"(weight|tensor)_\d+", entry["path_name"]
            ):
                raise UnsafeProgramError(
                    f"{name!r} is stored as a pickle or an object, which could run any code and is never loaded;"
                    " export the model with plain tensors only"
                )
            _check(name, {name: entry})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UnsafeProgramError):
            raise
        raise UnsafeProgramError(f"the table of tensors is not as torch writes it: {error!r}") from None


def _drop_metadata(value: Any) -> None:
    """Empty the metadata of every node: where it was traced is of no use here."""
    if isinstance(value, dict):
        if "target" in value and "metadata" in value:
            value["metadata"] = {}
        for item in value.values():
            _drop_metadata(item)
    elif isinstance(value, list):
        for item in value:
            _drop_metadata(item)


def _check(field: str, value: Any) -> None:
    """Check a part of the document by the key it stands under: what is not known to be harmless is refused."""
    if isinstance(value, dict):
        for key, item in value.items():
            if field == "range_constraints":  # of derived sizes too, such as 2*s0
                check_expression(key)
            else:
                _check_name("a key", key)
            if key in _CUSTOM:
                raise UnsafeProgramError(
                    "the program holds a custom object, which is a pickle and never loaded"
                )
            _check(key, item)
    elif isinstance(value, list):
        for item in value:
            _check(field, item)
    elif isinstance(value, str):
        if field in ("target", "as_operator"):
            _check_operator(value)
        elif field == "expr_str":
            check_expression(value)
        elif field in ("in_spec", "out_spec"):
            _check_tree(json.loads(value)[1])
        elif field not in _FREE_TEXT:
            _check_name(field, value)


def _check_name(field: str, text: str) -> None:
    if not _NAME.fullmatch(text):
        raise UnsafeProgramError(f"{field}: {text[:80]!r} is not a name that torch gives")


def _check_operator(text: str) -> None:
    match = _OPERATORS.fullmatch(text)
    if not match or match["op"] in FILE_OPERATORS:
        raise UnsafeProgramError(f"the operator {text[:80]!r} is not one that this runtime runs")


def _check_tree(spec: Any) -> None:
    kind, context = spec["type"], spec["context"]
    if kind is None and context is None:
        return
    if kind not in _TREES:
        raise UnsafeProgramError(
            f"an input or output is of type {str(kind)[:80]!r}; use tensors, lists, tuples, dicts"
        )
    keys = json.loads(context)
    if _TREES[kind]:
        for key in keys:
            if type(key) is not int:
                _check_name("a key of a dict", key)
    elif keys is not None:
        raise UnsafeProgramError(f"a {kind} has the context {context[:80]!r}")
    for child in spec["children_spec"]:
        _check_tree(child)


def check_expression(text: str) -> None:
    """Check that an expression of sizes is arithmetic only, in infix or in sympy's srepr form.

    Raises:
        UnsafeProgramError: it holds anything else.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise UnsafeProgramError(f"expr_str: {text[:80]!r} is no expression") from None
    if not _is_arithmetic(tree.body):
        raise UnsafeProgramError(f"expr_str: {text[:80]!r} is more than an expression of sizes")


def _is_arithmetic(node: ast.expr) -> bool:
    match node:
        case ast.Call(
            func=ast.Name(id="Symbol" | "Float"), args=[ast.Constant(value=str(text))], keywords=flags
        ):
            return _WORD.fullmatch(text) is not None and all(
                isinstance(flag.value, ast.Constant) for flag in flags
            )
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
            return _FUNCTIONS.fullmatch(function) is not None and all(map(_is_arithmetic, arguments))
        case ast.BinOp(left=left, op=operator, right=right):
            return isinstance(operator, _ARITHMETIC) and _is_arithmetic(left) and _is_arithmetic(right)
        case ast.UnaryOp(op=operator, operand=operand):
            return isinstance(operator, _SIGNS) and _is_arithmetic(operand)
        case ast.Compare(left=left, ops=operators, comparators=others):
            return all(isinstance(o, _COMPARISONS) for o in operators) and all(
                map(_is_arithmetic, (left, *others))
            )
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float)
        case ast.Name(id=name):
            return _WORD.fullmatch(name) is not None
        case _:
            return False
