"""What ``docs/serving.md`` says: its server is started, asked by several at once, and stopped."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pipelines import Generator
from tests.support.pages import ROOT, blocks

pytest.importorskip("litserve")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The page's file."""
    (block,) = [block for block in blocks("docs/serving.md") if block.file]
    path = tmp_path_factory.mktemp("serving") / block.file
    path.write_text(block.text)
    return path


def test_images_depend_on_no_request_beside_them(script, tiny_run, monkeypatch):
    monkeypatch.syspath_prepend(str(script.parent))
    from serve import Images

    api = Images(str(tiny_run), max_batch_size=16)
    api.setup("cpu")
    asked = [{"label": "3", "seed": 7}, {"label": "5"}, {"seed": 2}, {"label": "3", "seed": 7}]
    together = api.predict(api.batch([api.decode_request(one) for one in asked]))
    generator = Generator.load(tiny_run, device="cpu")
    for one, image in zip(asked, together, strict=True):
        expected = generator.sample(1, label=one.get("label", -1), seed=one.get("seed", 0)).images_uint8[0, ..., 0]
        assert np.abs(np.array(image).astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_a_server_answers_several_at_once(script, tiny_run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, script.name, str(tiny_run), str(port)]
    # A group of its own: the server has workers that outlive it when it alone is stopped.
    output = (script.parent / "output").open("w+")
    server = subprocess.Popen(
        words, cwd=script.parent, env=environment, stdout=output, stderr=output, start_new_session=True
    )

    def ask(number):
        body = json.dumps({"label": str(number % 10), "seed": number}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return np.array(Image.open(io.BytesIO(base64.b64decode(json.load(answer)["png"]))))

    try:
        end = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (script.parent / "output").read_text()
                assert time.monotonic() < end
                time.sleep(0.2)
        with ThreadPoolExecutor(5) as several:
            images = list(several.map(ask, range(5)))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)
        output.close()
    generator = Generator.load(tiny_run, device="cpu")
    for number, image in enumerate(images):
        expected = generator.sample(1, label=str(number), seed=number).images_uint8[0, ..., 0]
        assert np.abs(image.astype(int) - expected).max() <= 1
