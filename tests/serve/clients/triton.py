"""Triton's client, as its users write it. ``via`` chooses the transport: grpc, grpc.aio, http, http.aio."""

import asyncio
import inspect
import queue

import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import np_to_triton_dtype

_MODULES = {
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
}


def _inputs(via, inputs, binary=True):
    made = []
    for name, (datatype, array) in inputs.items():
        tensor = _MODULES[via].InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
        if via.startswith("http"):
            tensor.set_data_from_numpy(array, binary_data=binary)
        else:
            tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def _outputs(via, names, classes, binary=True):
    if names is None:
        return None
    more = {"binary_data": binary} if via.startswith("http") else {}
    return [_MODULES[via].InferRequestedOutput(name, class_count=classes, **more) for name in names]


def _arrays(via, result, names):
    if names is None:
        response = result.get_response()
        if via.startswith("http"):
            names = [output["name"] for output in response["outputs"]]
        else:
            names = [output.name for output in response.outputs]
    return {name: result.as_numpy(name) for name in names}


async def _asynchronous(via, address, method, args, kwargs, options):
    async with _MODULES[via].InferenceServerClient(address, **options) as client:
        return await getattr(client, method)(*args, **kwargs)


def _ask(via, address, method, *args, options=None, **kwargs):
    if via.endswith(".aio"):
        return asyncio.run(_asynchronous(via, address, method, args, kwargs, options or {}))
    with _MODULES[via].InferenceServerClient(address, **(options or {})) as client:
        return getattr(client, method)(*args, **kwargs)


def infer(via, address, model, inputs, outputs=None, classes=0, binary=True, options=None, **more):
    """Outputs by name. ``inputs``: name -> (datatype or "", array)."""
    result = _ask(
        via,
        address,
        "infer",
        model,
        _inputs(via, inputs, binary),
        outputs=_outputs(via, outputs, classes, binary),
        options=options,
        **more,
    )
    return _arrays(via, result, outputs)


def infer_again_and_again(via, address, model, feeds, output):
    """All feeds at once, from one client: the callbacks' or futures' results in the order of the feeds."""
    module = _MODULES[via]
    if via == "http":
        with module.InferenceServerClient(address, concurrency=16) as client:
            pending = [client.async_infer(model, _inputs(via, feed)) for feed in feeds]
            return [one.get_result().as_numpy(output) for one in pending]
    if via == "grpc":
        answers = queue.Queue()
        with module.InferenceServerClient(address) as client:
            for index, feed in enumerate(feeds):
                client.async_infer(
                    model, _inputs(via, feed), callback=lambda result, error, i=index: answers.put((i, result, error))
                )
            found = {}
            for _ in feeds:
                index, result, error = answers.get(timeout=60)
                if error is not None:
                    raise error
                found[index] = result.as_numpy(output)
        return [found[i] for i in range(len(feeds))]

    async def gather():
        async with module.InferenceServerClient(address) as client:
            results = await asyncio.gather(*(client.infer(model, _inputs(via, feed)) for feed in feeds))
            return [result.as_numpy(output) for result in results]

    return asyncio.run(gather())


def stream(address, model, feeds, output, headers=None, compression=None, count=None):
    """Sends all feeds down one stream: a list of arrays, and strings for errors."""
    answers = queue.Queue()
    found = []
    with tritonclient.grpc.InferenceServerClient(address) as client:
        client.start_stream(
            lambda result, error: answers.put((result, error)), headers=headers, compression_algorithm=compression
        )
        for index, feed in enumerate(feeds):
            client.async_stream_infer(model, _inputs("grpc", feed), request_id=str(index))
        for _ in range(len(feeds) if count is None else count):
            result, error = answers.get(timeout=60)
            if error is not None:
                found.append((str(error.status()), error.message()))
            else:
                found.append((result.get_response().id, result.as_numpy(output)))
        client.stop_stream()
    return found


def stream_aio(address, model, feeds, output, headers=None):
    async def run():
        async def requests():
            for index, feed in enumerate(feeds):
                yield {"model_name": model, "inputs": _inputs("grpc.aio", feed), "request_id": str(index)}

        found = []
        async with tritonclient.grpc.aio.InferenceServerClient(address) as client:
            answers = client.stream_infer(requests(), headers=headers)
            async for result, error in answers:
                found.append(
                    (str(error.status()), error.message())
                    if error is not None
                    else (result.get_response().id, result.as_numpy(output))
                )
        return found

    return asyncio.run(run())


def ask(via, address, method, *args, options=None, **kwargs):
    """Any other method of the client; messages as JSON's types."""
    if via.startswith("grpc") and "as_json" in inspect.signature(getattr(_client_class(via), method)).parameters:
        kwargs["as_json"] = True
    return _ask(via, address, method, *args, options=options, **kwargs)


def _client_class(via):
    return _MODULES[via].InferenceServerClient


def raw_call(address, path, request, timeout=10.0, metadata=(), compression=None, options=()):
    """Bytes to a gRPC method, bytes back."""
    import grpc

    channel = grpc.insecure_channel(address, compression=compression, options=options)
    with channel:
        return channel.unary_unary(path)(request, timeout=timeout, metadata=metadata)


def infer_with_tls(via, address, model, inputs, root, key=None, chain=None):
    if via.startswith("grpc"):
        options = {"ssl": True, "root_certificates": root, "private_key": key, "certificate_chain": chain}
        return infer(via, address, model, inputs, options=options)
    import ssl

    if via == "http":
        options = {"ssl": True, "ssl_options": {"ca_certs": root}}
        if key:
            options["ssl_options"] |= {"keyfile": key, "certfile": chain}
        return infer(via, address, model, inputs, options=options)
    context = ssl.create_default_context(cafile=root)
    if key:
        context.load_cert_chain(chain, key)
    return infer(via, address, model, inputs, options={"ssl": True, "ssl_context": context})


def reflect(address):
    """What grpcurl's list and describe need: services by reflection, and their methods from the descriptors."""
    import grpc
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        found = {}
        for name in database.get_services():
            service = pool.FindServiceByName(name)
            found[name] = {
                method.name: (method.input_type.full_name, method.output_type.full_name) for method in service.methods
            }
        message = pool.FindMessageTypeByName("inference.ModelInferRequest")
        found["fields"] = {field.name: field.number for field in message.fields}
    return found


def check_health(address, service=""):
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
        return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


_watches = {}


def watch_health(address, service=""):
    """Begins to watch; gives the first status."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    channel = grpc.insecure_channel(address)
    call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service), timeout=60)
    _watches[address, service] = (channel, call)
    return next_health(address, service)


def next_health(address, service=""):
    import grpc
    from grpc_health.v1 import health_pb2

    try:
        status = next(_watches[address, service][1]).status
    except (grpc.RpcError, StopIteration) as error:
        return type(error).__name__
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)
