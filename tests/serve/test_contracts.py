"""Our protocols against those that clients carry: names, numbers and types are the same."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool

from client_worker import Worker
from linnet.serve import _messages


def files(worker: Worker, modules: list[str]) -> list[Any]:
    """Descriptors of the files that these modules of a client's environment are made from."""
    names, found = worker.call("contracts", "files", modules)
    pool = descriptor_pool.DescriptorPool()
    for file in found:
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file))
    return [pool.FindFileByName(name) for name in names]


def field_facts(field: Any) -> tuple[int, int, bool, str, bool]:
    inner = field.message_type or field.enum_type
    return (
        field.number,
        field.type,
        field.is_repeated,
        inner.full_name if inner else "",
        field.containing_oneof is not None,
    )


class Comparison:
    """Counts fields that are the same; any other is a failure unless it is named here, by its full name.

    Args:
        ours_alone: fields that we have and they have not.
        theirs_alone: messages and fields that they have and we have not, or have in another form.
        whole: they have no message that we have not.
    """

    def __init__(self, ours_alone: set[str], theirs_alone: set[str], whole: bool = True) -> None:
        self.ours_alone, self.theirs_alone, self.whole = ours_alone, theirs_alone, whole
        self.fields = 0

    def file(self, theirs: Any, name: str) -> None:
        ours = _messages.file_by_name(name)
        for message, descriptor in theirs.message_types_by_name.items():
            if message in ours.message_types_by_name:
                self.message(descriptor, ours.message_types_by_name[message])
            else:
                assert not self.whole or descriptor.full_name in self.theirs_alone, descriptor.full_name
        for enum, descriptor in theirs.enum_types_by_name.items():
            if enum in ours.enum_types_by_name or self.whole:
                self.enum(descriptor, ours.enum_types_by_name[enum])
        for service, descriptor in theirs.services_by_name.items():
            for method in descriptor.methods:
                other = ours.services_by_name[service].methods_by_name[method.name]
                assert other.input_type.full_name == method.input_type.full_name
                assert other.output_type.full_name == method.output_type.full_name
                assert other.client_streaming == method.client_streaming
                assert other.server_streaming == method.server_streaming

    def message(self, theirs: Any, ours: Any) -> None:
        absent = {f"{theirs.full_name}.{n}" for n in set(theirs.fields_by_name) - set(ours.fields_by_name)}
        assert not self.whole or absent <= self.theirs_alone, absent - self.theirs_alone
        added = {f"{theirs.full_name}.{n}" for n in set(ours.fields_by_name) - set(theirs.fields_by_name)}
        assert added <= self.ours_alone, added - self.ours_alone
        for name in set(theirs.fields_by_name) & set(ours.fields_by_name):
            full_name = f"{theirs.full_name}.{name}"
            if full_name not in self.theirs_alone:
                facts = field_facts(theirs.fields_by_name[name]), field_facts(ours.fields_by_name[name])
                assert facts[0] == facts[1], full_name
                self.fields += 1
        for name, nested in theirs.nested_types_by_name.items():
            if name in ours.nested_types_by_name:
                self.message(nested, ours.nested_types_by_name[name])
        for name, enum in theirs.enum_types_by_name.items():
            if name in ours.enum_types_by_name:
                self.enum(enum, ours.enum_types_by_name[name])

    def enum(self, theirs: Any, ours: Any) -> None:
        values = {v.name: v.number for v in theirs.values if not v.name.endswith("_REF")}
        assert values == {v.name: v.number for v in ours.values}, ours.full_name


def test_oip_is_tritons(triton: Worker) -> None:
    inference, config = files(triton, ["tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2"])
    properties = {"inference.ModelMetadataResponse.properties"}
    whole = Comparison(properties, set())
    whole.file(inference, "inference.proto")
    assert whole.fields > 150
    part = Comparison(set(), set(), whole=False)  # ours has what has an effect here
    part.file(config, "model_config.proto")
    assert part.fields > 40


def test_health_and_reflection(triton: Worker) -> None:
    health, reflection = files(triton, ["grpc_health.v1.health_pb2", "grpc_reflection.v1alpha.reflection_pb2"])
    comparison = Comparison(set(), set())
    comparison.file(health, "health.proto")
    comparison.file(reflection, "reflection_v1alpha.proto")
    assert comparison.fields > 15


def test_tensorflow_serving(tensorflow: Worker) -> None:
    apis = ["classification", "get_model_metadata", "get_model_status", "inference", "model_management", "model"]
    apis += ["model_service", "predict", "prediction_service", "regression", "status"]
    modules = [f"tensorflow_serving.apis.{name}_pb2" for name in apis]
    configs = ["file_system_storage_path_source", "model_server_config"]
    modules += [f"tensorflow_serving.config.{name}_pb2" for name in configs]
    comparison = Comparison(
        set(),
        {
            "tensorflow.serving.PredictStreamedOptions",
            "tensorflow.serving.PredictRequest.predict_streamed_options",
            "tensorflow.serving.PredictRequest.client_id",
            "tensorflow.serving.PredictRequest.request_options",
            "tensorflow.serving.StatusProto.error_code",  # an enum there, whose bytes are the same
            "tensorflow.TensorProto.resource_handle_val",
            "tensorflow.TensorProto.variant_val",
            "tensorflow.VariantTensorDataProto",
            "tensorflow.SerializedDType",
        },
    )
    for file in files(tensorflow, modules):
        comparison.file(file, "tensorflow_serving.proto")
    tensors = [f"tensorflow.core.framework.{name}_pb2" for name in ("tensor", "tensor_shape", "types")]
    for file in files(tensorflow, tensors):
        comparison.file(file, "tensorflow.proto")
    assert comparison.fields > 80
