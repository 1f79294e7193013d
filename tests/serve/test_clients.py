"""Clients that others wrote, as their users get them; each test skips where its tool is absent."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.conftest import RunningServer
from tests.small_model import photo


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(f"/usr/local/go/bin/{name}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def bin_photo(tmp_path: Path) -> Path:
    path = tmp_path / "bin.jpg"
    path.write_bytes(photo(4))
    return path


def lines_of(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


JAVA = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;

public class Ask {
  public static void main(String[] given) throws Exception {
    byte[] photo = Files.readAllBytes(Path.of(given[1]));
    for (HttpClient.Version version : HttpClient.Version.values()) {
      HttpClient client = HttpClient.newBuilder().version(version).build();
      for (boolean expects : new boolean[] {false, true}) {
        for (boolean streams : new boolean[] {false, true}) {
          HttpRequest.BodyPublisher body = streams
              ? HttpRequest.BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream(photo))
              : HttpRequest.BodyPublishers.ofByteArray(photo);
          HttpRequest request = HttpRequest.newBuilder(URI.create(given[0])).header("Content-Type", "image/jpeg")
              .expectContinue(expects).POST(body).build();
          for (int again = 0; again < 2; again++) {
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
          }
        }
      }
    }
  }
}
"""


def test_javas_own_client_offers_http2_and_is_counted(server: RunningServer, bin_photo: Path, tmp_path: Path) -> None:
    """By default it offers an upgrade with every first request; a parser that takes the offer loses the body."""
    (tmp_path / "Ask.java").write_text(JAVA)
    answers = lines_of([tool("java"), "Ask.java", server.predict, str(bin_photo)], tmp_path)
    assert [json.loads(answer)["predictions"][0]["count"] for answer in answers] == [4] * 16


GO = """
package main

import ("bytes"; "fmt"; "io"; "mime/multipart"; "net/http"; "os")

func main() {
  photo, _ := os.ReadFile(os.Args[2])
  reply, err := http.Post(os.Args[1], "image/jpeg", bytes.NewReader(photo))
  if err != nil { panic(err) }
  text, _ := io.ReadAll(reply.Body)
  fmt.Println(string(text))
  form := &bytes.Buffer{}
  writer := multipart.NewWriter(form)
  part, _ := writer.CreateFormFile("file", "bin.jpg")
  part.Write(photo)
  writer.Close()
  reply, err = http.Post(os.Args[1], writer.FormDataContentType(), form)
  if err != nil { panic(err) }
  text, _ = io.ReadAll(reply.Body)
  fmt.Println(string(text))
}
"""


@pytest.mark.slow  # compiling Go's HTTP library takes half a minute
def test_gos_own_client_is_counted(server: RunningServer, bin_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "ask.go").write_text(GO)
    answers = lines_of([tool("go"), "run", "ask.go", server.predict, str(bin_photo)], tmp_path)
    assert [json.loads(answer)["predictions"][0]["count"] for answer in answers] == [4, 4]


NODE = """
const [url, path] = process.argv.slice(2);
const photo = require("fs").readFileSync(path);
(async () => {
  const form = new FormData();
  form.append("file", new Blob([photo], {type: "image/jpeg"}), "bin.jpg");
  const bodies = [[photo, {"Content-Type": "image/jpeg"}], [form, {}],
    [JSON.stringify({instances: [{b64: photo.toString("base64"), recorded_quantity: 4.0}]}), {}]];
  for (const [body, headers] of bodies) {
    const reply = await fetch(url, {method: "POST", body, headers});
    console.log(await reply.text());
  }
})();
"""


def test_nodes_fetch_is_counted_or_told_what_to_send(server: RunningServer, bin_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "ask.js").write_text(NODE)
    photo_reply, form_reply, text_reply = lines_of([tool("node"), "ask.js", server.predict, str(bin_photo)], tmp_path)
    for reply in (photo_reply, form_reply):
        assert json.loads(reply)["predictions"][0]["count"] == 4
    # A string is sent as text/plain.
    assert "application/json" in json.loads(text_reply)["error"] or "JSON" in json.loads(text_reply)["error"]


@pytest.mark.parametrize(
    "how",
    [
        ["--http2", "-H", "Content-Type: image/jpeg"],
        ["--http2", "-H", "Expect: 100-continue"],
        ["--http2", "-H", "Transfer-Encoding: chunked"],
        ["--compressed"],
    ],
)
def test_curl_with_http2_is_counted(server: RunningServer, bin_photo: Path, tmp_path: Path, how: list[str]) -> None:
    command = [tool("curl"), "-sS", "-m", "60", *how, "--data-binary", f"@{bin_photo}", server.predict, server.predict]
    (answers,) = lines_of(command, tmp_path)
    assert answers.count('"count":4') == 2


def test_curls_default_type_holds_what_its_bytes_are(server: RunningServer, bin_photo: Path, tmp_path: Path) -> None:
    import base64

    text = json.dumps({"instances": [{"b64": base64.b64encode(bin_photo.read_bytes()).decode()}]})
    (tmp_path / "input.json").write_text(text)
    (answer,) = lines_of([tool("curl"), "-sS", "-d", "@input.json", server.predict], tmp_path)
    assert json.loads(answer)["predictions"][0]["count"] == 4


def test_a_client_made_from_the_openapi_description_gets_counts(
    server: RunningServer, bin_photo: Path, tmp_path: Path
) -> None:
    generator = tool("openapi-python-client")
    (tmp_path / "openapi.json").write_text(lines_of(["curl", "-sS", f"{server.url}/openapi.json"], tmp_path)[0])
    (tmp_path / "config.yaml").write_text(CONFIG)
    command = [
        generator,
        "generate",
        "--path",
        "openapi.json",
        "--output-path",
        "client",
        "--meta",
        "none",
        "--config",
        "config.yaml",
    ]
    said = "\n".join(lines_of(command, tmp_path))
    assert "WARNING" not in said, said
    python = Path(generator).parent / "python"
    (tmp_path / "ask.py").write_text(GENERATED)
    interpreter = str(python) if python.exists() else sys.executable
    assert lines_of([interpreter, "ask.py", server.url, str(bin_photo)], tmp_path) == ["4 True", "4", "not_an_image"]


GENERATED = """
import base64, io, sys
from client import Client
from client.api.default import metadata, predict, server_ready
from client.models import PredictJsonBody, PredictJsonBodyInstancesItem
from client.types import File

url, path = sys.argv[1:]
photo = open(path, "rb").read()
with Client(base_url=url) as client:
    reply = predict.sync("bin-counter", client=client, body=File(payload=io.BytesIO(photo)), recorded_quantity=3)
    print(reply.predictions[0].count, reply.predictions[0].mismatch_probability > 0.5)
    instance = PredictJsonBodyInstancesItem(b64=base64.b64encode(photo).decode())
    reply = predict.sync("bin-counter", client=client, body=PredictJsonBody(instances=[instance]))
    print(reply.predictions[0].count)
    wrong = predict.sync("bin-counter", client=client, body=File(payload=io.BytesIO(b"no photo")))
    print(wrong.reason)
    assert server_ready.sync(client=client) is not None
    assert metadata.sync("bin-counter", client=client) is not None
"""
CONFIG = """
content_type_overrides: {image/jpeg: application/octet-stream, image/png: application/octet-stream,
  image/webp: application/octet-stream}
post_hooks: []
"""
