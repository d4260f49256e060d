"""Folders of small PNG files: how they are split, and that everything wrong with one is a line that names it."""

import os
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from app.codecs.images import files as images
from training import data
from training.data.base import DataError


def write(path, *, seed=0, size=(12, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    Image.fromarray(pixels[:, :, 0] if bands == 1 else pixels, mode=None).save(path)


def fill(root, counts, **options):
    """`counts`: class folder -> number of pictures; no two pictures are the same."""
    for k, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            write(root / folder / f"{i:03d}.png", seed=1000 * k + i, **options)
    return root


def refusal(root, **options):
    with pytest.raises(DataError) as caught:
        data.load(str(root), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(root), "ROOT")


def sizes(dataset):
    return [
        part.bincount(minlength=dataset.classes).tolist() for part in (dataset.train_y, dataset.held_y, dataset.test_y)
    ]


def test_class_folders_are_split_by_class_into_eight_one_and_one_tenths(tmp_path):
    dataset = data.load(str(fill(tmp_path / "My Péts", {"dog": 20, "cat": 30})), size=8)
    assert dataset.labels == ("cat", "dog")
    assert sizes(dataset) == [[24, 16], [3, 2], [3, 2]]
    assert dataset.train_x.shape == (40, 8, 8, 3)
    assert dataset.picture.shape == (8, 8, 3)
    assert (dataset.name, dataset.title) == ("my-pets", "My Péts")
    assert dataset.note.startswith("50 of 50 pictures resized to 8x8; split by class")


def test_the_split_is_the_same_every_time_and_no_picture_is_in_two_parts(tmp_path):
    root = str(fill(tmp_path / "pets", {"cat": 10, "dog": 10}))
    first, second = data.load(root), data.load(root)
    assert first.train_x.equal(second.train_x)
    assert first.test_x.equal(second.test_x)
    x, _ = first.everything()
    assert len({row.numpy().tobytes() for row in x}) == 20


def test_pictures_have_the_pixels_that_the_server_would_read(tmp_path):
    root = fill(tmp_path / "pets", {"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1}, size=(30, 20))
    dataset = data.load(str(root), size=8)
    for row, label in zip(dataset.test_x, ("cat", "dog"), strict=True):
        served = images.decode(
            (root / "test" / label / "000.png").read_bytes(), dataset.picture, subject="image", max_pixels=600
        )
        np.testing.assert_array_equal(row.numpy(), served)


def test_grey_pictures_in_any_file_form_become_one_channel_as_served(tmp_path):
    root = fill(tmp_path / "scans", {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1}, mode="L", size=(20, 30))
    colour_form = root / "test" / "b" / "000.png"
    Image.open(colour_form).convert("RGB").save(colour_form)
    dataset = data.load(str(root), size=8)
    assert dataset.picture.channels == 1
    assert dataset.train_x.shape[1:] == (8, 8, 1)
    served = images.decode(colour_form.read_bytes(), dataset.picture, subject="image", max_pixels=600)
    np.testing.assert_array_equal(dataset.test_x[1].numpy(), served)


def test_one_coloured_picture_makes_all_of_them_colour(tmp_path):
    root = fill(tmp_path / "scans", {"a": 5, "b": 5}, mode="L")
    write(root / "a" / "colour.png")
    assert data.load(str(root), size=8).picture.channels == 3


def test_train_test_and_val_folders_are_used_as_they_are(tmp_path):
    counts = {"train/a": 5, "train/b": 4, "test/a": 3, "test/b": 2, "valid/a": 1, "valid/b": 2}
    assert sizes(data.load(str(fill(tmp_path / "set", counts)), size=8)) == [[5, 4], [1, 2], [3, 2]]


def test_without_val_a_tenth_of_the_training_rows_is_held_out(tmp_path):
    counts = {"train/a": 20, "train/b": 2, "test/a": 3, "test/b": 2}
    assert sizes(data.load(str(fill(tmp_path / "set", counts)), size=8)) == [[18, 1], [2, 1], [3, 2]]


def test_a_class_may_be_called_train(tmp_path):
    assert data.load(str(fill(tmp_path / "set", {"train": 3, "bus": 3})), size=8).labels == ("bus", "train")


def test_labels_are_any_unicode_and_one_word_is_one_label(tmp_path):
    root = fill(tmp_path / "set", {"u\u0308ber": 3, "猫": 3})
    assert data.load(str(root), size=8).labels == ("über", "猫")
    fill(root, {"über": 3})
    assert "two class folders are called 'über'" in refusal(root)


def test_hidden_and_system_files_are_ignored(tmp_path):
    root = fill(tmp_path / "set", {"a": 3, "b": 3})
    for name in (".DS_Store", "Thumbs.db", "a/.DS_Store", "b/Thumbs.db", "b/desktop.ini"):
        (root / name).write_bytes(b"not a picture")
    (root / "__MACOSX").mkdir()
    (root / "LICENSE").write_text("a text beside the classes is nobody's picture")
    assert sizes(data.load(str(root), size=8)) == [[1, 1]] * 3


def test_pictures_of_that_size_already_are_not_counted_as_resized(tmp_path):
    root = fill(tmp_path / "set", {"a": 3, "b": 3}, size=(8, 8))
    write(root / "a" / "large.png", size=(9, 8), seed=99)
    assert data.load(str(root), size=8).note.startswith("1 of 7 pictures resized")


def test_copies_within_a_class_are_used_once_and_never_on_both_sides(tmp_path):
    root = fill(tmp_path / "set", {"train/a": 4, "train/b": 4, "test/a": 1, "test/b": 1})
    copy = (root / "test" / "a" / "000.png").read_bytes()
    (root / "train" / "a" / "copy.png").write_bytes(copy)
    dataset = data.load(str(root), size=12)
    assert sizes(dataset) == [[3, 3], [1, 1], [1, 1]]
    assert dataset.note.endswith("; 1 exact copies left out")
    assert not any(row.equal(dataset.test_x[0]) for row in (*dataset.train_x, *dataset.held_x))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "ROOT: has no classes: expected one sub-folder per class, here are 0 files and no sub-folder"),
        ({"": 2}, "ROOT: has no classes: expected one sub-folder per class, here are 2 files and no sub-folder"),
        ({"cat": 9}, "ROOT: has one class, 'cat'; a classifier needs two or more"),
        ({"cat": 9, "dog": 0, "emu": 0}, "ROOT: no pictures in the class 'dog', 'emu'"),
        ({"cat": 3, "dog": 3, "": 1}, "ROOT: pictures beside the class folders belong to no class: '000.png'"),
        ({"cat": 3, "dog/small": 3}, "ROOT/dog/small: a folder inside the class 'dog'; pictures lie directly in"),
        (
            {"cat": 2, "dog": 9},
            "ROOT: each class needs 3 different pictures, one each for training, test, selection: the class 'cat'",
        ),
        (
            {"train/a": 1, "train/b": 3, "test/a": 1, "test/b": 1},
            "ROOT: each class needs 2 different pictures, one each for training, selection: the class 'a' has 1",
        ),
        ({"test/a": 3, "test/b": 3}, "ROOT: has test/ with class folders in it, but no train/"),
        ({"train/a": 3, "train/b": 3, "test/a": 3}, "ROOT/test: has one class, 'a'"),
        (
            {"train/a": 3, "train/b": 3, "test/a": 3, "test/b": 3, "test/c": 3},
            "ROOT: the class 'c' is in test/ but not in train/",
        ),
        (
            {"train/a": 3, "train/b": 3, "train/c": 3, "test/a": 3, "test/b": 3},
            "ROOT: the class 'c' is in train/ but not in test/",
        ),
        ({"train/a": 3, "train/b": 3, "test": 3}, "ROOT/test: has no classes"),
        ({"train/a": 3, "train/b": 3, "cat": 3}, "ROOT: 'cat' beside train/: a class folder, or a second part"),
    ],
    ids=lambda value: "+".join(value) or "empty" if isinstance(value, dict) else "",
)
def test_a_folder_that_is_no_data_set_is_refused_with_its_name(tmp_path, counts, message):
    assert refusal(fill(tmp_path, counts)).startswith(message)


def test_a_path_that_is_missing_or_a_file_is_said(tmp_path):
    assert refusal(tmp_path / "nowhere").startswith("ROOT: no such folder")
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file") == "ROOT: Not a directory"


@pytest.mark.parametrize("form", ["bmp", "webp", "tiff"])
def test_the_same_pixels_are_a_copy_whatever_the_file(tmp_path, form):
    root = fill(tmp_path / "set", {"Training/a": 4, "Training/b": 4, "Testing/a": 1, "Testing/b": 1})
    image = Image.open(root / "Testing" / "a" / "000.png")
    image.save(root / "Training" / "a" / f"copy.{form}", **({"lossless": True} if form == "webp" else {}))
    dataset = data.load(str(root), size=12)
    assert sizes(dataset) == [[3, 3], [1, 1], [1, 1]]
    assert "1 exact copies left out" in dataset.note


def test_pictures_of_one_colour_are_no_copies_of_each_other(tmp_path):
    root = fill(tmp_path / "set", {"a": 4, "b": 4})
    for name in ("a/x.png", "b/x.bmp"):
        Image.new("RGB", (12, 12), (9, 9, 9)).save(root / name)
    assert sum(map(sum, sizes(data.load(str(root), size=12)))) == 10


def smooth(seed, side=96):
    """As a photograph, it has more of large things than of small ones."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def test_near_copies_in_two_parts_are_told(tmp_path):
    for part, many in (("train", 12), ("test", 6)):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(many):
                smooth(zlib.crc32(f"{part}/{label}/{i}".encode())).save(tmp_path / part / label / f"{i}.png")
    assert "look like copies" not in data.load(str(tmp_path), size=48).note
    own = smooth(zlib.crc32(b"train/a/3"))
    own.save(tmp_path / "test" / "a" / "again.jpg", quality=60)
    own.resize((70, 70)).save(tmp_path / "test" / "a" / "small.png")
    own.crop((1, 1, 95, 95)).save(tmp_path / "test" / "a" / "cropped.png")
    note = data.load(str(tmp_path), size=48).note
    assert "3 of other parts look like copies of training pictures" in note
    assert "test/a/again.jpg is nearly train/a/3.png" in note


def test_what_lies_beside_pictures_is_passed_over_and_counted(tmp_path):
    root = fill(tmp_path / "set", {"a": 3, "b": 3})
    (root / "a" / "000.txt").write_text("a caption")
    (root / "b" / "boxes.XML").write_text("<boxes/>")
    dataset = data.load(str(root), size=8)
    assert sizes(dataset) == [[1, 1]] * 3
    assert dataset.note.endswith("; 2 files that are no pictures passed over")


def test_files_that_cannot_be_read_are_counted_and_the_first_named(tmp_path):
    root = fill(tmp_path, {"a": 5, "b": 5})
    whole = (root / "a" / "000.png").read_bytes()
    (root / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "empty.jpg").touch()
    (root / "b" / "notes.doc").write_text("remember the milk")
    (root / "b" / "page").write_text("<html></html>")
    message = refusal(root)
    assert message.startswith(
        "ROOT: 4 of 14 files cannot be read as pictures: a/cut.png begins as PNG but cannot be decoded"
    )
    assert "a/empty.jpg is empty" in message
    assert "b/notes.doc is text" in message
    assert message.endswith("; and 1 more")


def test_a_file_in_two_classes_is_named_with_both(tmp_path):
    root = fill(tmp_path, {"a": 5, "b": 5})
    (root / "b" / "same.png").write_bytes((root / "a" / "002.png").read_bytes())
    assert refusal(root) == "ROOT: the same file lies in two classes (1 found): a/002.png = b/same.png"


def test_a_part_that_is_only_copies_is_refused(tmp_path):
    root = fill(tmp_path, {"train/a": 1, "train/b": 3, "test/a": 1, "test/b": 1})
    (root / "train" / "a" / "000.png").write_bytes((root / "test" / "a" / "000.png").read_bytes())
    assert "every train picture of the class 'a' is a copy" in refusal(root)


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links and pipes")
def test_links_in_a_circle_broken_links_and_pipes_end_in_a_line(tmp_path):
    root = fill(tmp_path, {"a": 3, "b": 3})
    (root / "a" / "loop").symlink_to("loop")
    assert refusal(root) == "ROOT/a/loop: Too many levels of symbolic links"
    (root / "a" / "loop").unlink()
    (root / "a" / "loop").symlink_to(root)
    assert refusal(root).startswith("ROOT/a/loop: a folder inside the class 'a'")
    (root / "a" / "loop").unlink()
    (root / "a" / "gone.png").symlink_to("nowhere.png")
    assert refusal(root) == "ROOT/a/gone.png: neither a file nor a folder (a broken link?)"
    (root / "a" / "gone.png").unlink()
    os.mkfifo(root / "b" / "pipe.png")
    assert refusal(root) == "ROOT/b/pipe.png: neither a file nor a folder (a broken link?)"


def test_what_may_not_be_read_is_said(tmp_path, monkeypatch):
    # By a stand-in for the call that fails: the super-user, whom containers like, may read everything.
    root = fill(tmp_path, {"a": 3, "b": 3})
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(root) == "ROOT/b: Permission denied"


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are any bytes")
def test_a_class_whose_name_is_not_utf_8_is_refused(tmp_path):
    fill(tmp_path, {"a": 3})
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    assert refusal(tmp_path).endswith("caf\\udce9': the name is not UTF-8, so it cannot be a label")


@pytest.mark.parametrize("size", [0, -1, 100_000])
def test_a_size_that_makes_no_picture_is_refused(tmp_path, size):
    assert refusal(fill(tmp_path, {"a": 3, "b": 3}), size=size) == f"size: is {size}, expected 1 to 1024 pixels"
