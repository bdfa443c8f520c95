"""Capsules: what is read of them, and when they are given back."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
from capsules import CODES, CPU, CUDA, CUDA_MANAGED, READ_ONLY, Producer, name_of
from marlin_moe._dlpack import DlpackTensor

VERSIONS = [None, (1, 0), (1, 3)]


@pytest.mark.parametrize("version", VERSIONS)
def test_fields_are_read(version: Any) -> None:
    producer = Producer(
        (3, 5),
        "bfloat16",
        pointer=0x7F0000000100,
        device=(CUDA, 3),
        strides=(16, 1),
        byte_offset=32,
        version=version,
    )
    tensor = DlpackTensor(producer.capsule())
    assert tensor.pointer == 0x7F0000000120
    assert tensor.shape == (3, 5)
    assert tensor.strides == (16, 1)
    assert (tensor.device_type, tensor.device) == (CUDA, 3)
    assert tensor.dtype == "bfloat16"
    assert not tensor.read_only
    tensor.release()


@pytest.mark.parametrize("dtype", CODES)
def test_dtypes_have_their_names(dtype: str) -> None:
    assert DlpackTensor(Producer((1,), dtype).capsule()).dtype == dtype


def test_unknown_dtypes_say_what_they_are() -> None:
    dtype = DlpackTensor(Producer((1,), (2, 32, 4)).capsule()).dtype
    assert dtype == "DLPack's (code 2, 32 bits, 4 lanes)"


@pytest.mark.parametrize("version", VERSIONS)
def test_consuming_renames_and_releasing_deletes_once(version: Any) -> None:
    producer = Producer((2,), "int32", version=version)
    capsule = producer.capsule()
    tensor = DlpackTensor(capsule)
    assert name_of(capsule) == f"used_{producer.capsule_name.decode()}"
    assert producer.deleted == 0
    tensor.release()
    tensor.release()
    del capsule
    gc.collect()
    assert (producer.deleted, producer.destroyed) == (1, 0)


def test_a_consumed_capsule_is_refused() -> None:
    producer = Producer((2,), "int32")
    capsule = producer.capsule()
    DlpackTensor(capsule).release()
    with pytest.raises(ValueError, match="consumed before"):
        DlpackTensor(capsule)
    assert producer.deleted == 1


def test_what_is_no_capsule_is_refused() -> None:
    with pytest.raises(ValueError, match="no DLPack capsule"):
        DlpackTensor(object())


def test_other_major_versions_are_left_to_their_producer() -> None:
    producer = Producer((2,), "int32", version=(2, 0))
    capsule = producer.capsule()
    with pytest.raises(ValueError, match=r"DLPack 2\.0"):
        DlpackTensor(capsule)
    assert name_of(capsule) == "dltensor_versioned"
    del capsule
    gc.collect()
    assert (producer.deleted, producer.destroyed) == (0, 1)


def test_without_a_deleter_there_is_nothing_to_call() -> None:
    producer = Producer((2,), "int32", has_deleter=False)
    DlpackTensor(producer.capsule()).release()
    assert producer.deleted == 0


def test_read_only_is_told() -> None:
    assert DlpackTensor(
        Producer((2,), "int32", version=(1, 0), flags=READ_ONLY).capsule()
    ).read_only


def test_empty_and_scalar_tensors() -> None:
    empty = DlpackTensor(Producer((0, 4), "int32", pointer=0, byte_offset=64).capsule())
    assert (empty.pointer, empty.shape, empty.strides) == (0, (0, 4), None)
    assert DlpackTensor(Producer((), "int32", device=(CUDA_MANAGED, 0)).capsule()).shape == ()


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}])
def test_a_real_producer(options: dict[str, Any]) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[1:, ::2]
    references = sys.getrefcount(array)
    tensor = DlpackTensor(array.__dlpack__(**options))
    assert sys.getrefcount(array) > references
    assert tensor.pointer == array.ctypes.data
    assert (tensor.shape, tensor.strides, tensor.dtype) == ((3, 3), (6, 2), "float32")
    assert tensor.device_type == CPU
    tensor.release()
    assert sys.getrefcount(array) == references
