"""A microphone in Chromium: what MediaRecorder makes of it over HTTP, and its samples over a WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.browser.chromium import CHROMIUM, FLAGS, WAIT_MS

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SENTENCE = ROOT / "docs" / "examples" / "sentence.opus"
SPOKEN = "bin blue at f two now"
RATE = 48_000

# The recorder's pieces are joined as a page would do it.
RECORD = """async ([kind, ms]) => {
    const stream = await navigator.mediaDevices.getUserMedia({audio: {
        echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
    const recorder = new MediaRecorder(stream, {mimeType: kind});
    const pieces = [];
    recorder.ondataavailable = event => pieces.push(event.data);
    const stopped = new Promise(done => recorder.onstop = done);
    recorder.start();
    await new Promise(done => setTimeout(done, ms));
    recorder.stop();
    await stopped;
    stream.getTracks().forEach(track => track.stop());
    const answer = await fetch('/v1/transcribe', {
        method: 'POST', headers: {'Content-Type': kind.split(';')[0]}, body: new Blob(pieces)});
    return [answer.status, await answer.json()];
}"""
LISTEN = """async ms => {
    const stream = await navigator.mediaDevices.getUserMedia({audio: {
        echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
    const context = new AudioContext();
    const source = context.createMediaStreamSource(stream);
    const tap = context.createScriptProcessor(4096, 1, 1);
    const socket = new WebSocket(`ws://${location.host}/v1/transcribe?rate=${context.sampleRate}`);
    socket.binaryType = 'arraybuffer';
    const events = [];
    const closed = new Promise(done => socket.onclose = event => done(event.code));
    socket.onmessage = message => events.push(JSON.parse(message.data));
    await new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; });
    tap.onaudioprocess = event => {
        const samples = event.inputBuffer.getChannelData(0);
        if (socket.readyState === 1)
            socket.send(Int16Array.from(samples, x => Math.max(-32768, Math.min(32767, Math.round(x * 32768)))).buffer);
    };
    source.connect(tap);
    tap.connect(context.destination);
    await new Promise(done => setTimeout(done, ms));
    tap.disconnect();
    socket.send(JSON.stringify({event: 'end'}));
    const code = await closed;
    stream.getTracks().forEach(track => track.stop());
    return [code, events];
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[Any]:
    """A page of the server in a browser whose microphone hears the example sentence once a session, over soft noise."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (make browser installs it where it can)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make browser installs it)")
    pytest.importorskip("av", reason="the extra media is not installed: WebM and MP4 are not read")
    samples, rate = soundfile.read(SENTENCE, dtype="float32")
    heard = tmp_path_factory.mktemp("microphone") / "sentence.wav"
    noise = np.random.default_rng(0).standard_normal(rate // 2).astype(np.float32) * 1e-3
    soundfile.write(heard, np.concatenate([noise, samples, noise]), rate, subtype="PCM_16")
    flags = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}%noloop",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags], chromium_sandbox=False)
        context = browser.new_context(permissions=["microphone"])
        context.set_default_timeout(WAIT_MS)
        opened = context.new_page()
        opened.goto(address + "/")
        yield opened
        browser.close()


@pytest.mark.parametrize("kind", ["audio/webm;codecs=opus", "audio/mp4"])
def test_what_a_browser_records_is_answered_with_its_words_where_they_were_said(page: Any, kind: str) -> None:
    if not page.evaluate("kind => MediaRecorder.isTypeSupported(kind)", kind):
        pytest.skip(f"this Chromium does not record {kind}")
    status, answer = page.evaluate(RECORD, [kind, 4500])
    assert status == 200, answer
    (result,) = answer["results"]
    assert result["text"] == SPOKEN
    assert 3.9 < result["duration_s"] < 5.0
    starts = [word["start_s"] for word in result["words"]]
    assert starts == sorted(starts)


@pytest.mark.skipif(not (ROOT / "models" / "speech-streaming").is_dir(), reason="no streaming model is shipped")
def test_a_page_s_microphone_is_transcribed_while_it_is_heard(page: Any) -> None:
    code, events = page.evaluate(LISTEN, 4500)
    assert code == 1000
    *partial, final = events
    assert [event["event"] for event in partial] == ["partial"] * len(partial)
    assert len(partial) >= 3
    assert final["event"] == "final"
    assert final["results"][0]["text"] == SPOKEN
    assert final["model"] == "speech-streaming"
