"""Sixteen float32 numbers at once in functions that numba compiles: eight complex numbers, one vector for each part.

`Lanes` is a type that exists only inside numba: `load` and `same` return it, `+`, `-`, `*` and the functions here take
it, and `store` writes it back. Each operation is one or two vector instructions on any processor. For loops over plain
numbers, the compiler emits vector instructions only if it can prove that no two arrays overlap, which it cannot do for
a Fourier transform (3 times slower).

numba caches compiled code until the file of the compiled function changes: after a change here, touch `fourier.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

HALF = 8
WIDTH = 2 * HALF  # numbers: `HALF` real parts, then as many imaginary parts

_VECTOR = ir.VectorType(ir.FloatType(), HALF)
_WHOLE = ir.VectorType(ir.IntType(32), HALF)
_PAIR = ir.LiteralStructType([_VECTOR, _VECTOR])
_FREE = ("contract", "nsz")  # a product and a sum may become one instruction; the sign of zero is ignored
_ROOT = 0x3F3504F3  # the bits of sqrt(0.5)


class _Lanes(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("Lanes")


LANES = _Lanes()


@register_model(_Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _PAIR)


def _intrinsic(define: Callable[..., Any]) -> Any:
    """Make a function for compiled code; `define` maps numba's argument types to the signature and a builder."""
    return intrinsic(define)


@_intrinsic
def load(_: Any, array: Any, place: Any) -> Any:
    """The numbers of a flat float32 array, starting at `place`.

    Args:
        _: numba's typing context.
        array: type of the array.
        place: type of the index of the first number.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _pair(builder, *(builder.load(half, align=4) for half in _halves(context, builder, signature, args)))

    return LANES(array, types.intp), build


@_intrinsic
def store(_: Any, array: Any, place: Any, value: Any) -> Any:
    """Write `value` to a flat float32 array, starting at `place`.

    Args:
        _: numba's typing context.
        array: type of the array.
        place: type of the index of the first number.
        value: type of the lanes.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for part, half in zip(_parts(builder, args[2]), _halves(context, builder, signature, args), strict=True):
            builder.store(part, half, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), build


@_intrinsic
def same(_: Any, number: Any) -> Any:
    """The same float32 number in all lanes."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _pair(builder, *[_spread(builder, args[0])] * 2)

    return LANES(types.float32), build


def _of_lanes(build: Callable[..., Any]) -> Any:
    """Make a function of one or two Lanes for compiled code; `build` takes the builder and the two parts of each."""

    def build_parts(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _pair(builder, *build(builder, *(_parts(builder, value) for value in args)))

    if build.__code__.co_argcount == 2:
        return intrinsic(lambda _, value: (LANES(LANES), build_parts))
    return intrinsic(lambda _, value, other: (LANES(LANES, LANES), build_parts))


@_of_lanes
def quarter(builder: Any, value: Any) -> Any:
    """Multiply complex numbers by -1j, a quarter of a turn."""
    return value[1], builder.fneg(value[0], flags=_FREE)


@_of_lanes
def conjugate(builder: Any, value: Any) -> Any:
    """The complex conjugate of `value`."""
    return value[0], builder.fneg(value[1], flags=_FREE)


@_of_lanes
def powers(builder: Any, value: Any, other: Any) -> Any:
    """Squared magnitudes: those of `value` as real parts, those of `other` as imaginary parts.

    Args:
        builder: instruction builder.
        value: halves of complex lanes.
        other: halves of complex lanes.
    """
    squares = [[builder.fmul(part, part, flags=_FREE) for part in parts] for parts in (value, other)]
    return [builder.fadd(a, b, flags=_FREE) for a, b in squares]


@_of_lanes
def larger(builder: Any, value: Any, other: Any) -> Any:
    """The elementwise maximum of plain numbers.

    Args:
        builder: instruction builder.
        value: halves of lanes.
        other: halves of lanes.
    """
    both = list(zip(value, other, strict=True))
    return [builder.select(builder.fcmp_ordered(">", a, b), a, b) for a, b in both]


@_of_lanes
def exponent(builder: Any, value: Any) -> Any:
    """The exponents e of plain positive numbers `m 2**e` with sqrt(0.5) <= m < sqrt(2)."""
    root, shift = (ir.Constant(_WHOLE, [number] * HALF) for number in (_ROOT, 23))
    bits = (builder.sub(builder.bitcast(part, _WHOLE), root) for part in value)
    return [builder.sitofp(builder.ashr(part, shift), _VECTOR) for part in bits]


@_of_lanes
def mantissa(builder: Any, value: Any) -> Any:
    """The factors m of plain positive numbers `m 2**e` with sqrt(0.5) <= m < sqrt(2)."""
    root, low = (ir.Constant(_WHOLE, [number] * HALF) for number in (_ROOT, 0x7FFFFF))
    bits = (builder.and_(builder.sub(builder.bitcast(part, _WHOLE), root), low) for part in value)
    return [builder.bitcast(builder.add(part, root), _VECTOR) for part in bits]


def _plus(builder: Any, value: Any, other: Any) -> Any:
    return [builder.fadd(a, b, flags=_FREE) for a, b in zip(value, other, strict=True)]


def _minus(builder: Any, value: Any, other: Any) -> Any:
    return [builder.fsub(a, b, flags=_FREE) for a, b in zip(value, other, strict=True)]


def _times(builder: Any, value: Any, other: Any) -> Any:
    return [builder.fmul(a, b, flags=_FREE) for a, b in zip(value, other, strict=True)]


def _scaled(builder: Any, value: Any, number: Any) -> Any:
    return [builder.fmul(part, number, flags=_FREE) for part in value]


def _turned(builder: Any, value: Any, number: Any) -> Any:
    (real, imaginary), (cosine, sine) = value, number
    parts = ((real, cosine), (imaginary, sine), (real, sine), (imaginary, cosine))
    a, b, c, d = (builder.fmul(*both, flags=_FREE) for both in parts)
    return builder.fsub(a, b, flags=_FREE), builder.fadd(c, d, flags=_FREE)


def _operand(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The parts of the second value of an operator."""
    if kind == LANES:
        return _parts(builder, value)
    if kind == types.float32:
        return _spread(builder, value)
    number = context.make_complex(builder, kind, value=value)
    return _spread(builder, number.real), _spread(builder, number.imag)


def _operator(operation: Callable[..., Any], other: Any, build: Callable[..., Any]) -> None:
    """Define `operation` on Lanes and `other`."""

    def build_parts(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        second = _operand(context, builder, signature.args[1], args[1])
        return _pair(builder, *build(builder, _parts(builder, args[0]), second))

    type_callable(operation)(lambda context: lambda a, b: LANES if (a, b) == (LANES, other) else None)
    lower_builtin(operation, LANES, other)(build_parts)


_operator(operator.add, LANES, _plus)
_operator(operator.sub, LANES, _minus)
_operator(operator.mul, LANES, _times)  # for plain, not complex numbers
_operator(operator.mul, types.float32, _scaled)
_operator(operator.mul, types.complex64, _turned)


def _halves(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Pointers to the real and to the imaginary parts at the given index of the first argument's array."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    first = builder.bitcast(builder.gep(data, [args[1]]), _VECTOR.as_pointer())
    return [first, builder.gep(first, [ir.Constant(ir.IntType(64), 1)])]


def _parts(builder: Any, value: Any) -> tuple[Any, Any]:
    return builder.extract_value(value, 0), builder.extract_value(value, 1)


def _pair(builder: Any, real: Any, imaginary: Any) -> Any:
    return builder.insert_value(builder.insert_value(ir.Constant(_PAIR, ir.Undefined), real, 0), imaginary, 1)


def _spread(builder: Any, number: Any) -> Any:
    """A vector filled with one number."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_WHOLE, [0] * HALF))
