"""The demo's output without a browser."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention.checkpoints import load
from residual_attention.cli.main import main
from residual_attention.data.images import ImageError
from residual_attention.demo.session import before_and_after, example_images, open_session, overlay, reading_labels


@pytest.fixture(scope="module")
def session(finished):
    return open_session(load(finished), example_images([finished / "examples"])[0])


def test_an_image_is_classified_and_seen_through_every_reading(session):
    assert sum(session.top.values()) <= 1.0 + 1e-6
    assert next(iter(session.top.values())) == max(session.top.values())
    drawn = {}
    for module in range(len(session.modules)):
        for _, reading in reading_labels():
            picture, line = overlay(session, module, reading, channel=2)
            assert picture.size == session.picture.size
            assert session.modules[module] in line
            drawn[module, reading] = picture.tobytes()
    assert len(set(drawn.values())) == len(drawn)


def test_opacity_and_numbers_out_of_range_are_bounded(session):
    clear, _ = overlay(session, 0, "mean", opacity=-3)
    assert np.abs(np.diff(np.asarray(clear).astype(int), axis=2)).max() <= 1  # the gray image alone
    last, _ = overlay(session, 99, "one channel", channel=10**9)
    assert last.size == session.picture.size


def test_before_and_after_are_the_chosen_channel(session):
    pictures, line = before_and_after(session, 0, "one channel", 7)
    assert len(pictures) == 3
    assert "Channel 7" in line
    name = session.modules[0]
    excited = int(session.found.contributions[name][0].sum((1, 2)).argmax())
    assert f"Channel {excited} " in before_and_after(session, 0, "mean")[1]


def test_a_file_that_is_not_an_image_is_refused(session, tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ImageError, match="not an image"):
        open_session(session.model, tmp_path / "a.png")


def test_visitors_at_the_same_time_get_their_own_masks(finished):
    model = load(finished)
    paths = example_images([finished / "examples"])[:4]
    alone = [open_session(model, path).found for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: open_session(model, path).found, paths * 5))
    for i, found in enumerate(together):
        for name, mask in alone[i % 4].masks.items():
            assert torch.equal(found.masks[name], mask)


def test_the_network_runs_in_one_thread_whichever_asks(finished):
    model = load(finished)
    path = example_images([finished / "examples"])[0]
    together, ran = threading.Barrier(4), set()

    def visit(_: int) -> None:
        together.wait(60)
        session = open_session(model, path)
        overlay(session, 0, "mean")

    with model.register_forward_pre_hook(lambda *_: ran.add(threading.get_ident())), ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(4)))
    assert len(ran) == 1


def test_answered_calls_leave_no_history():
    queueing = pytest.importorskip("gradio.queueing")
    from residual_attention.demo.guards import REMEMBERED, bound_history

    async def made():
        return queueing.Queue(live_updates=True, concurrency_count=1, update_intervals=1, max_size=None, blocks=None)

    loop = asyncio.new_event_loop()  # asyncio.run would drop the loop that Gradio's own tests left, unclosed
    queue = loop.run_until_complete(made())  # it asks for the running loop
    loop.close()
    known = set(vars(queue))
    bound_history(queue)
    assert set(vars(queue)) == known, "this Gradio names its history differently"
    for caller in map(str, range(2 * REMEMBERED)):
        queue.pending_event_ids_session[caller] = set()
        queue.pending_messages_per_session[caller] = None
    assert len(queue.pending_event_ids_session) == len(queue.pending_messages_per_session) == REMEMBERED
    assert queue.ANALYTICS_MAX_EVENTS == REMEMBERED


def test_an_extremely_narrow_image_is_classified_without_its_whole_length(finished, tmp_path):
    Image.new("L", (60_000, 1), 200).save(tmp_path / "needle.png")
    assert open_session(load(finished), tmp_path / "needle.png").top


def test_examples_are_the_first_folder_with_images(finished, tmp_path):
    (tmp_path / "empty").mkdir()
    assert example_images([tmp_path / "none", tmp_path / "empty"]) == []
    found = example_images([tmp_path / "empty", finished / "examples"])
    assert len(found) == 8
    assert torch.is_tensor(load(finished).preprocess(Image.open(found[0])))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--port", "70000"], "port must be between"),
        (["--examples", "none"], "no folder of examples"),
    ],
)
def test_wrong_calls_are_one_line(finished, capsys, arguments, message):
    assert main(["demo", str(finished), *arguments]) == 2
    assert message in capsys.readouterr().err
