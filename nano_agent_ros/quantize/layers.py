"""Conversion by a method that looks at what goes through a layer: whole layers, in order, one in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

from tqdm import tqdm

from .artifact import FLOAT16, FLOAT32, ArtifactTensor
from .methods import LayerResult, LayerWeights, Method
from .source import Checkpoint
from .stored import StoredMatrix
from .table import EMBEDDINGS, layer_of
from .writer import ArtifactWriter, stored_rows

_EMBEDDING_ROWS_AT_ONCE = 4096


def quantize_layers(
    checkpoint: Checkpoint, writer: ArtifactWriter, method: Method, bits_of: Callable[[str], int], bar: tqdm[Any]
) -> None:
    """Store every tensor by way of `method`; layers that an earlier run has finished are only run through."""
    for index, group in groupby(writer.tensors.values(), lambda t: layer_of(t.name, checkpoint.config)):
        tensors = list(group)
        if index < 0:
            _store_embeddings(checkpoint, writer, tensors[0], bar)
            table = _stored(writer, tensors[0])
            method.begin(lambda ids, table=table: table[ids])  # type: ignore[misc]
            continue
        bar.set_postfix_str(tensors[-1].name.removesuffix(".weight"), refresh=True)
        weights = _layer_weights(checkpoint, tensors, index, bits_of)
        if all(t.name in writer.done for t in tensors):
            method.resume(weights, _layer_result(writer, tensors))
        else:
            result = method.layer(weights)
            for t in tensors:
                if t.kind == FLOAT32:
                    values = result.vectors.get(t.name, weights.vectors[t.name])
                    writer.write(t.name, values.astype("<f4", copy=False))
                else:
                    writer.write(t.name, result.matrices[t.name].pack())
            writer.finished(*(t.name for t in tensors))
        bar.update(sum(t.rows * t.cols for t in tensors))


def _store_embeddings(checkpoint: Checkpoint, writer: ArtifactWriter, t: ArtifactTensor, bar: tqdm[Any]) -> None:
    assert (t.name, t.kind) == (EMBEDDINGS, FLOAT16)
    bar.set_postfix_str(t.name, refresh=False)
    if t.name not in writer.done:
        for begin in range(0, t.rows, _EMBEDDING_ROWS_AT_ONCE):
            end = min(begin + _EMBEDDING_ROWS_AT_ONCE, t.rows)
            writer.write(t.name, stored_rows(t, checkpoint.rows(t, begin, end)), begin)
        writer.finished(t.name)
    bar.update(t.rows * t.cols)


def _layer_weights(
    checkpoint: Checkpoint, tensors: list[ArtifactTensor], index: int, bits_of: Callable[[str], int]
) -> LayerWeights:
    matrices, vectors = {}, {}
    for t in tensors:
        values = checkpoint.rows(t)
        if t.kind == FLOAT32:
            vectors[t.name] = values if t.cols > 1 else values.reshape(t.rows)
        else:
            matrices[t.name] = values
    return LayerWeights(index, matrices, {name: bits_of(name) for name in matrices}, vectors)


def _layer_result(writer: ArtifactWriter, tensors: list[ArtifactTensor]) -> LayerResult:
    """The layer as an earlier run has stored it."""
    stored = {t.name: _stored(writer, t) for t in tensors}
    vectors = {t.name: stored[t.name][:].reshape(t.rows, -1) for t in tensors if t.kind == FLOAT32}
    flat = {name: v if v.shape[1] > 1 else v.reshape(-1) for name, v in vectors.items()}
    return LayerResult({t.name: stored[t.name].quantized() for t in tensors if t.kind != FLOAT32}, flat)


def _stored(writer: ArtifactWriter, t: ArtifactTensor) -> StoredMatrix:
    return StoredMatrix(writer.weights_path, t.kind, t.rows, t.cols, t.offset)
