"""Pictures of one's own objects: read from COCO, asked about in the same way, and learned."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from exaone_ros.errors import DatasetError
from exaone_ros.tasks import Count, Decide, Decoded, Ground
from exaone_ros.training.checkpoints import CHECKPOINT
from exaone_ros.training.cli import main
from exaone_ros.training.data import MAIN, BatchMaker
from exaone_ros.training.evaluate import OWN_ASKED, own_examination, questions_of
from exaone_ros.training.export import export
from exaone_ros.training.own_frames import PictureReader, cut, read_frame
from exaone_ros.training.own_pictures import OwnNames, is_held_out, read_coco
from exaone_ros.training.own_questions import OwnQuestioner
from exaone_ros.training.own_sizes import own_sizes
from exaone_ros.training.packing import Encoder
from exaone_ros.training.trainer import Trainer, TrainOptions
from exaone_ros.training.truth import Truth
from exaone_ros.training.validation import Validation

NAMES = ("hex key", "gear", "나사")
WIDTH, HEIGHT = 168, 126


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of bars, discs and triangles under names that the tabletop does not know."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(5)
    data: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7 + i, "name": name} for i, name in enumerate(NAMES)],
    }
    data["categories"][0]["plural"] = "hex keys"
    for number in range(20):
        image = np.full((HEIGHT, WIDTH, 3), rng.integers(120, 200, 3), np.uint8)
        for place in range(int(rng.integers(0, 4))):
            kind, x, y = int(rng.integers(3)), 6 + 54 * place, int(rng.integers(5, 80))
            if kind == 0:
                box = (x, y, 40, 12)
                image[y : y + 12, x : x + 40] = (20, 30, 200)
            elif kind == 1:
                box = (x, y, 31, 31)
                cv2.circle(image, (x + 15, y + 15), 15, (30, 160, 30), -1)
            else:
                box = (x, y, 30, 30)
                cv2.fillPoly(image, [np.array([(x, y + 29), (x + 29, y + 29), (x + 15, y)])], (200, 40, 30))
            entry: dict[str, Any] = {"image_id": number, "category_id": 7 + kind, "bbox": box, "iscrowd": 0}
            if kind == 2:
                entry["segmentation"] = [[x, y + 29, x + 29, y + 29, x + 15, y]]
            data["annotations"].append(entry)
        name = f"picture-{number:02d}.png"
        cv2.imwrite(str(folder / name), image)
        data["images"].append({"id": number, "file_name": name})
    path = folder / "mine.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_pictures_are_read_and_parted_by_their_names(coco: Path) -> None:
    own = read_coco(coco)
    assert own.names.names == NAMES
    assert own.names.languages == ("en",)
    assert len(own.training) + len(own.held_out) == 20
    assert own.held_out and all(is_held_out(picture.file.name) for picture in own.held_out)
    assert not {p.file for p in own.training} & {p.file for p in own.held_out}
    assert sum(len(p.marked) for p in own.training + own.held_out) == len(json.loads(coco.read_text())["annotations"])


def test_frames_hold_boxes_and_outlines(coco: Path) -> None:
    own = read_coco(coco)
    seen = set()
    for picture in own.training:
        frame = read_frame(picture)
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert sorted(t.box for t in picture.marked) == [o.box for o in frame.objects]
        for index, thing in enumerate(frame.objects):
            share = (frame.instance == index).sum() / ((thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1]))
            assert share == pytest.approx(0.5, abs=0.1) if thing.shape == "나사" else share == 1.0
            seen.add(thing.shape)
    assert seen == set(NAMES)
    reader = PictureReader(kept=1)
    assert reader.frame(own.training[0]) is reader.frame(own.training[0])


def test_a_cut_shows_a_part_with_its_truth(coco: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [read_frame(picture) for picture in read_coco(coco).training]
    partly = 0
    for frame, size in itertools.product(frames, ((84, 112), (56, 84), (112, 56))):
        part = cut(rng, frame, size)
        assert part.image.shape == (*size, 3)
        assert part.instance.shape == size
        assert len(part.objects) <= len(frame.objects)
        for thing in part.objects:
            assert 0 <= thing.box[0] < thing.box[2] <= size[1]
            assert 0 <= thing.box[1] < thing.box[3] <= size[0]
            partly += thing.visible_fraction < 1
    assert partly


def test_questions_are_about_the_own_names_only_and_right(coco: Path) -> None:
    own = read_coco(coco)
    kinds, encoder = set(), Encoder()
    for number, picture in enumerate(own.training):
        frame = read_frame(picture)
        asker = OwnQuestioner(own.names, Truth.of(frame), np.random.default_rng(number))
        for question in itertools.islice(asker.draw(), 40):
            kinds.add(question.kind)
            height, width = frame.image.shape[:2]
            assert question.task.read(Decoded(question.answer), width, height) is not None
            text = question.task.prompt() + question.answer
            assert "table" not in text and "red" not in text.replace("red.", ""), text
            assert encoder.text(encoder.prompt(question)).startswith(question.task.prompt())
            names = [t.shape for t in frame.objects]
            if isinstance(question.task, Count):
                label = question.task.label.removesuffix("s")
                wanted = sum(label in ("", name) for name in names)
                assert question.answer == Count.answer(wanted), text
            if isinstance(question.task, Ground) and question.kind in ("list", "name"):
                wanted = (
                    len(names) if question.kind == "list" else names.count(question.task.classes[0].removesuffix("s"))
                )
                assert len(json.loads(question.answer)) == wanted
            if isinstance(question.task, Decide) and question.kind == "presence":
                assert (json.loads(question.answer)["choice"] == "yes") == any(
                    n in question.task.prompt() for n in names
                )
    assert {"list", "name", "absent", "count", "count_kind", "relation", "pick", "presence"} <= kinds


def test_korean_is_asked_where_every_name_has_a_korean_one() -> None:
    assert OwnNames(("gear", "bolt"), {}, {"gear": "톱니"}).languages == ("en",)
    names = OwnNames(("gear",), {}, {"gear": "톱니"})
    assert names.languages == ("en", "ko")
    truth = Truth(100, 100, (), (), None, None, True)
    question = OwnQuestioner(names, truth, np.random.default_rng(0), "ko").ask("absent")
    assert question is not None
    assert "톱니" in question.task.prompt()


def test_a_frame_of_nothing_but_doubt_ends_the_questions(coco: Path) -> None:
    own = read_coco(coco)
    frame = next(f for f in map(read_frame, own.training) if f.objects)
    doubtful = tuple(replace(frame.objects[0], shape=name, visible_fraction=0.0) for name in NAMES)
    truth = Truth.of(replace(frame, objects=doubtful))
    assert list(OwnQuestioner(own.names, truth, np.random.default_rng(0)).draw()) == []


def test_a_run_learns_from_them_and_is_exported(coco: Path, tiny_run: TrainOptions, tmp_path: Path) -> None:
    data = replace(tiny_run.data, own=coco, own_share=1.0, sizes=((84, 112),), length=128)
    maker = BatchMaker(data)
    batch = maker.make(3)
    assert (batch.cell_colour == -1).all() and (batch.cell_object > 0).any()
    assert np.array_equal(batch.tokens, BatchMaker(data).make(3).tokens)
    trainer = Trainer(replace(tiny_run, data=data, steps=16))
    batch = maker.make(0)
    losses = [trainer.train_on(batch)["word"] for _ in range(16)]
    assert losses[-1] < losses[0] - 0.4
    looked = Validation(replace(data, own_share=0.5), 1).measure(trainer.model, trainer.device)
    assert looked["loss"] > 0
    trainer.save()
    export(tiny_run.directory / CHECKPOINT, tmp_path / "model")
    again = Trainer(replace(tiny_run, directory=tmp_path / "again", start=tmp_path / "model"))
    ours, theirs = trainer.model.model.lm_head.weight, again.model.model.lm_head.weight
    assert abs(ours - theirs).max() < 2e-3


def test_held_out_pictures_are_a_column_of_the_evaluation(coco: Path) -> None:
    own = read_coco(coco)
    column = own_examination(own)
    frames = list(column.frames())
    assert len(frames) == len(own.held_out)
    frame = next(frame for frame in frames if frame.objects)
    asker = column.questioner(Truth.of(frame), np.random.default_rng(0), "en", first_wording=True, thinking=False)
    assert {"name", "count"} <= {question.kind for question in questions_of(asker, OWN_ASKED)}
    with pytest.raises(DatasetError, match=r"none of the .* held out"):
        own_examination(replace(own, held_out=()))


def test_sizes_of_pictures_on_edge_are_trained_too(coco: Path, tmp_path: Path) -> None:
    own = read_coco(coco)
    assert own_sizes((MAIN,), own) == (MAIN,)
    cv2.imwrite(str(tmp_path / "edge.png"), np.zeros((640, 480, 3), np.uint8))
    picture = replace(own.training[0], file=tmp_path / "edge.png", marked=())
    assert own_sizes((MAIN,), replace(own, training=(picture,))) == (MAIN, (336, 252))


def test_a_picture_of_another_size_than_its_boxes_is_refused(coco: Path) -> None:
    picture = read_coco(coco).training[0]
    assert picture.size is None
    assert read_frame(replace(picture, size=(WIDTH, HEIGHT))).image.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DatasetError, match=r"has 168 x 126 px, but its boxes are of a picture of 336 x 252 px"):
        read_frame(replace(picture, size=(2 * WIDTH, 2 * HEIGHT)))


def turned_jpeg(file: Path, image: np.ndarray) -> None:
    """Write a JPEG with a note (EXIF) that it is to be turned by a quarter."""
    written = cv2.imencode(".jpg", image)[1].tobytes()
    # TIFF header, then a directory of one entry: orientation (0x0112), a short, one of it, 6.
    note = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    file.write_bytes(written[:2] + b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note + written[2:])


def test_a_picture_of_a_telephone_is_turned_as_its_boxes_are(coco: Path, tmp_path: Path) -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, :50] = 255  # its left half; turned, its upper half
    turned_jpeg(tmp_path / "phone.jpg", image)
    picture = replace(read_coco(coco).training[0], file=tmp_path / "phone.jpg", marked=())
    for size, bright, dark in (
        (None, (10, 30), (90, 30)),
        ((60, 100), (10, 30), (90, 30)),
        ((100, 60), (30, 10), (30, 90)),
    ):
        frame = read_frame(replace(picture, size=size))
        assert frame.image[bright].min() > 200 and frame.image[dark].max() < 50, size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [{"id": 7}]}, "not of COCO's shape"),
        ({"categories": [{"id": 7, "name": "a, b"}]}, "holds a comma"),
        ({"categories": [{"id": 7, "name": "a"}, {"id": 8, "name": "a"}]}, "twice"),
        ({"annotations": [{"image_id": 99, "category_id": 7, "bbox": [0, 0, 1, 1]}]}, "image 99"),
        ({"annotations": [{"image_id": 0, "category_id": 7, "bbox": [0, 0, 0, 1]}]}, "with an area"),
        (
            {"annotations": [{"image_id": 0, "category_id": 7, "bbox": [0.2, 0.1, 0.5, 0.4]}]},
            "within 0 to 1, as shares",
        ),
        ({"images": [{"id": 0, "file_name": "a.png", "width": "wide", "height": 1}]}, "not of COCO's shape"),
        ({"images": [{"id": 0, "file_name": "none.png"}], "annotations": []}, "lacks 1 of the 1 pictures"),
        ({"images": [{"id": i, "file_name": "a.png"} for i in (0, 1)], "annotations": []}, "'a.png' under several ids"),
        ({"images": [], "annotations": []}, "none of which is for training"),
    ],
)
def test_what_is_no_coco_is_refused(coco: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(json.loads(coco.read_text()) | change), encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_coco(path, coco.parent)


def test_the_command_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["train", "--run", str(tmp_path / "run"), "--data", str(tmp_path / "mine.json")])
    assert status == 1
    assert "mine.json does not exist" in capsys.readouterr().err
