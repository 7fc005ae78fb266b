"""Compiles the protocols to what the server reads: ``python/linnet/serve/_descriptors.binpb``.

Run it after a change of a ``.proto`` file: ``python protos/make_descriptors.py`` (needs ``pip install grpcio-tools``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent
OUTPUT = PROTOS.parent / "python" / "linnet" / "serve" / "_descriptors.binpb"


def descriptors() -> bytes:
    """A serialized FileDescriptorSet of all protocols and what they import, dependencies first."""
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder)
        for path in PROTOS.glob("*.proto"):
            (sources / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        reflection = (sources / "reflection.proto").read_text(encoding="utf-8")
        alpha = reflection.replace("package grpc.reflection.v1;", "package grpc.reflection.v1alpha;")
        (sources / "reflection_v1alpha.proto").write_text(alpha, encoding="utf-8")
        output = sources / "descriptors.binpb"
        names = sorted(path.name for path in sources.glob("*.proto"))
        arguments = [f"-I{sources}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={output}"]
        if protoc.main(["protoc", *arguments, *names]) != 0:
            raise SystemExit("the protocols do not compile")
        files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    for file in files.file:
        _drop_json_names(file.message_type)
    return files.SerializeToString(deterministic=True)


def _drop_json_names(messages: object) -> None:
    """They follow from the fields' names, and every reader of descriptors makes them anew."""
    for message in messages:  # type: ignore[attr-defined]
        for field in message.field:
            field.ClearField("json_name")
        _drop_json_names(message.nested_type)


if __name__ == "__main__":
    OUTPUT.write_bytes(descriptors())
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")
