"""The protocols as clients have them."""

import importlib

from google.protobuf import descriptor_pb2


def files(modules):
    """Names of the files of these modules of messages; and the files, each after those that it imports, as bytes."""
    found = {}

    def add(file):
        for imported in file.dependencies:
            add(imported)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        found[file.name] = proto.SerializeToString()

    names = []
    for module in modules:
        descriptor = importlib.import_module(module).DESCRIPTOR
        add(descriptor)
        names.append(descriptor.name)
    return names, list(found.values())
