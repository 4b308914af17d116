"""A service: pictures over HTTP, classes back, with a budget for each request (extra `service`).

GFNET_RUN=runs/demo uvicorn --factory examples.service:from_environment
curl --data-binary @picture.jpg 'http://127.0.0.1:8000/recognize?budget=11e6'
curl http://127.0.0.1:8000/health

Requests that arrive together are recognized together: the networks take those that wait, sorted by budget, as soon as
they have finished the last ones. Pictures are decoded in threads meanwhile. GFNET_FULL=1 serves the full-resolution
network of the run instead, to compare with.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Request

from agents import Recognizer, load_recognizer, load_run
from classifiers.data.decoding import UnreadableImageError

Predict = Callable[[np.ndarray, float | None], list[dict[str, Any]]]
"""(N, H, W, 3) uint8 pictures and a budget in multiply-adds per picture, or None -> a record for each."""


class Waiting(NamedTuple):
    """A request that waits for the networks."""

    image: np.ndarray
    budget: float | None
    answer: asyncio.Future[dict[str, Any]]


def glances_and_focuses(recognizer: Recognizer) -> Predict:
    """A run's networks; thresholds are found once for a budget, which is rounded to two digits."""

    @lru_cache(maxsize=100)
    def rule(budget: float | None) -> Any:
        recognizer.use(budget=budget)
        return recognizer.rule

    def predict(images: np.ndarray, budget: float | None) -> list[dict[str, Any]]:
        recognizer.rule = rule(None if budget is None else float(f"{budget:.1e}"))
        found = recognizer.predict(images)
        return [
            {
                "class": recognizer.class_names[found.label[row]],
                "confidence": float(found.confidence[row]),
                "looks": int(found.step[row]),
                "multiply_adds": int(found.multiply_adds[row]),
            }
            for row in range(len(images))
        ]

    return predict


def full_resolution(run: str) -> Predict:
    """The run's full-resolution network, for comparison; it knows no budget."""
    loaded = load_run(run)
    network = loaded.full_resolution
    if network is None:
        raise ValueError(f"{run} has no full-resolution network; serve the run itself")

    @torch.inference_mode()
    def predict(images: np.ndarray, budget: float | None) -> list[dict[str, Any]]:
        confidence, label = network(torch.from_numpy(images).movedim(-1, -3)).softmax(dim=1).max(dim=1)
        names = [loaded.class_names[each] for each in label.tolist()]
        return [{"class": name, "confidence": sure} for name, sure in zip(names, confidence.tolist(), strict=True)]

    return predict


def make_app(recognizer: Recognizer, predict: Predict, most_at_once: int = 64) -> FastAPI:
    """The service.

    Args:
        recognizer: says how pictures are read.
        predict: recognizes them.
        most_at_once: pictures in a batch.

    Returns:
        An ASGI application.
    """
    waiting: asyncio.Queue[Waiting] = asyncio.Queue()

    async def work() -> None:
        while True:
            batch = [await waiting.get()]
            while len(batch) < most_at_once and not waiting.empty():
                batch.append(waiting.get_nowait())
            batch.sort(key=lambda each: each.budget or 0.0)
            for budget, group in groupby(batch, key=lambda each: each.budget):
                several = [each for each in group if not each.answer.done()]  # who has left needs no answer
                try:
                    images = np.stack([each.image for each in several])
                    for each, record in zip(several, await asyncio.to_thread(predict, images, budget), strict=True):
                        if not each.answer.done():
                            each.answer.set_result(record)
                except Exception as error:
                    for each in several:
                        if not each.answer.done():
                            each.answer.set_exception(error)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(work())
        yield
        worker.cancel()

    app = FastAPI(title="GFNet-Gym", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": waiting.qsize(), "classes": len(recognizer.class_names)}

    @app.post("/recognize")
    async def recognize(request: Request, budget: float | None = None) -> dict[str, Any]:
        try:
            image = await asyncio.to_thread(recognizer.decode, await request.body())
        except UnreadableImageError as error:
            raise HTTPException(415, str(error)) from error
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        waiting.put_nowait(Waiting(image, budget, answer))
        try:
            return await answer
        except (ValueError, FileNotFoundError) as error:  # a budget out of range, or a run without calibration
            raise HTTPException(422, str(error)) from error

    return app


def from_environment() -> FastAPI:
    """The service of the run that GFNET_RUN names."""
    run = os.environ["GFNET_RUN"]
    torch.set_num_threads(int(os.environ.get("GFNET_THREADS", "1")))
    recognizer = load_recognizer(run)
    predict = full_resolution(run) if os.environ.get("GFNET_FULL") else glances_and_focuses(recognizer)
    return make_app(recognizer, predict)
