"""Npz: what it reads, and every hostile archive refused before an array of it is made."""

from __future__ import annotations

import io
import pickle
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evergraft.errors import DataError
from evergraft_trainer.data import formats
from evergraft_trainer.data.formats import npz
from evergraft_trainer.data.listing import Listing
from evergraft_trainer.data.source import open_source

_PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


class _Bomb:
    """Unpickling this would raise, so a test that passes shows that nothing was unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


def _read(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Listing:
    np.savez(path / "d.npz", **arrays)  # type: ignore[arg-type]
    return npz.read(open_source(str(path / "d.npz")))


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _zip(path: Path, members: Mapping[str | zipfile.ZipInfo, bytes]) -> str:
    with zipfile.ZipFile(path / "d.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return str(path / "d.npz")


def test_integer_labels_are_their_decimal_names(tmp_path: Path) -> None:
    listing = _read(
        tmp_path,
        {"train_images": _PIXELS, "train_labels": np.array([10, 9]),
         "test_images": _PIXELS[:1, :, :, None], "test_labels": np.array([[3]], dtype=np.uint8)},
    )  # fmt: skip
    assert listing.labels == ("10", "9", "3")
    assert listing.groups == ("train", "train", "test")
    assert listing.keys == ("train/00000000", "train/00000001", "test/00000000")
    assert np.array_equal(listing.fetch(1), _PIXELS[1][..., None])
    assert np.array_equal(listing.fetch(2), _PIXELS[0][..., None])
    assert listing.files == ("d.npz",)


def test_labels_may_be_text_or_name_their_numbers(tmp_path: Path) -> None:
    text = _read(tmp_path, {"a_images": _PIXELS, "a_labels": np.array(["cat", "dog"])})
    assert text.labels == ("cat", "dog")
    named = {"a_images": _PIXELS, "a_labels": np.array([1, 0]), "labels": np.array(["cat", "dog", "owl"])}
    assert _read(tmp_path, named).labels == ("dog", "cat")
    assert _read(tmp_path, named).declared == ("cat", "dog", "owl")


def test_colour_and_a_folder_with_one_file(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", all_images=np.zeros((1, 2, 2, 3), np.uint8), all_labels=np.array([0]))
    source = open_source(str(tmp_path))
    assert formats.choose("Auto", source).name == "Npz"
    pixels = npz.read(source).fetch(0)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (2, 2, 3)
    (tmp_path / "e.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 \.npz files; let dataset\.url name"):
        npz.read(open_source(str(tmp_path)))


_LABELS = np.array([0, 1])
_OBJECTS = np.array([0, _Bomb()], dtype=object)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": _PIXELS}, "no array named <split>_images; found none"),
        ({"a_images": _PIXELS}, "a_labels: missing"),
        ({"a_images": _PIXELS.astype(np.float32), "a_labels": _LABELS}, r"float32 of shape \(2, 3, 4\); needed is"),
        ({"a_images": _PIXELS[0], "a_labels": _LABELS}, "a_images: uint8 of shape"),
        ({"a_images": np.zeros((2, 3, 4, 2), np.uint8), "a_labels": _LABELS}, "needed is uint8"),
        ({"a_images": np.zeros((2, 0, 8), np.uint8), "a_labels": _LABELS}, r"d\.npz: a_images: images of 0×8 pixels"),
        ({"a_images": _PIXELS, "a_labels": np.array([0])}, r"a_labels: shape \(1,\) where 2 images need"),
        ({"a_images": _PIXELS, "a_labels": np.array([0.5, 1])}, "float64; labels are integers or fixed-width text"),
        ({"a_images": _PIXELS, "a_labels": _LABELS, "labels": np.array(["x"])}, r"outside 0…0, the entries of"),
        ({"a_images": _PIXELS, "a_labels": -_LABELS, "labels": np.array(["x", "y"])}, "outside 0…1"),
        ({"a_images": _PIXELS, "a_labels": _LABELS, "labels": np.array([1, 2])}, "needed is 1-d fixed-width text"),
        ({"a_images": _PIXELS, "a_labels": np.array(["a", ""])}, "label '' is not"),
        ({"a_images": _PIXELS, "a_labels": _OBJECTS}, r"a_labels: holds Python objects \(pickle\)"),
    ],
)  # fmt: skip
def test_refuses_wrong_arrays(tmp_path: Path, arrays: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, arrays)


def _linked() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("a_labels.npy")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def _claiming(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + b"\0" * 100


def _headed(header: str) -> bytes:
    """An array whose header is this text."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + _PIXELS.tobytes()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"/etc/a_images.npy": b""}, "leaves the dataset's folder"),
        ({"../a_images.npy": b""}, "leaves the dataset's folder"),
        ({"x/../../a.npy": b""}, "leaves the dataset's folder"),
        ({_linked(): b"/etc/passwd"}, r"member 'a_labels\.npy' is a link"),
        ({"a.pkl": pickle.dumps(_Bomb())}, r"member 'a\.pkl' is no \.npy array"),
        ({"a_images.npy": pickle.dumps(_Bomb())}, "a_images: no readable array"),
        ({"a_images.npy": b"\x93NUMPY\x01\x00"}, "a_images: no readable array"),
        ({"a_images.npy": _claiming((10**6, 10**6))}, "claims 1,000,000,000,000 bytes where the member holds"),
        ({"a_images.npy": _claiming((2**40, 2**40))}, "claims"),
        ({"a_images.npy": _npy(_PIXELS)[:-5]}, "claims|no readable array"),
        ({"a_images.npy": _headed("(" * 5000)}, r"d\.npz: a_images: no readable array"),
        ({"a_images.npy": _headed("-" * 5000 + "1")}, r"d\.npz: a_images: no readable array"),
        ({"a_images.npy": _headed("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 3, 4)}")},
         r"d\.npz: a_images: its header claims shape \(True, 3, 4\)"),
        ({"a_images.npy": _headed("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 3, 4)}")},
         r"its header claims shape \(-2, 3, 4\)"),
        ({"a_images.npy": b"\x93NUMPY\x09\x00" + bytes(60)}, r"version \(9, 0\) is not read here"),
    ],
)  # fmt: skip
def test_refuses_hostile_archives(tmp_path: Path, members: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        npz.read(open_source(_zip(tmp_path, members)))


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04cut"])
def test_refuses_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"d\.npz: no readable \.npz file"):
        npz.read(open_source(str(tmp_path / "d.npz")))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_refuses_damaged_bytes_wherever_they_lie(tmp_path: Path, method: int) -> None:
    path = tmp_path / "d.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6), dtype=np.uint8)
    with zipfile.ZipFile(path, "w", compression=method) as archive:
        archive.writestr("a_images.npy", _npy(pixels))
        archive.writestr("a_labels.npy", _npy(np.arange(4) % 2))
    whole, said = path.read_bytes(), []
    for at in range(0, len(whole), 2):
        for value in (0, whole[at] ^ 0xFF):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                npz.read(open_source(str(path)))
            except DataError as error:
                said.append(str(error))
    assert len(said) > len(whole) // 2
    assert all(str(tmp_path) in message for message in said)


def test_refuses_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = Path(_zip(tmp_path, {"a_imagé.npy": b""}))
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match=r"d\.npz: no readable \.npz file"):
        npz.read(open_source(str(path)))


def test_refuses_images_over_the_limit_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergraft_trainer.data.decode.MAX_PIXELS", 11)
    with pytest.raises(DataError, match=r"a_images: 3×4: more than"):
        _read(tmp_path, {"a_images": _PIXELS, "a_labels": _LABELS})
