// A call from its bytes to the answer's: decode, find the model, check the inputs, run, encode, count.
#include "serve/server.h"

#include <algorithm>

#include "runtime/thread_pool.h"

namespace linnet::serve {
namespace {

using std::chrono::nanoseconds;

constexpr std::string_view kSignature = "serving_default";

std::string quoted_names(const std::vector<PortInfo>& ports) {
    std::string names;
    for (const PortInfo& port : ports) names += (names.empty() ? "'" : ", '") + port.name + "'";
    return names;
}

uint64_t hash_of(std::string_view text) {  // FNV-1a: the same on every machine and in every version
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return hash;
}

// The request's tensors in the order of the session's inputs.
std::vector<Value> bind_inputs(const Served& served, std::vector<NamedTensor>& given) {
    const Session& session = *served.session;
    const auto& ports = session.inputs();
    std::vector<Value> inputs(ports.size());
    for (size_t i = 0; i < given.size(); ++i) {
        const PortInfo* port = session.find_input(given[i].name, i);
        if (!port || port < ports.data() || port >= ports.data() + ports.size())
            refuse(Code::invalid_argument, "model '", served.name, "' has no input '", given[i].name,
                   "'; its inputs are ", quoted_names(ports));
        Value value(std::move(given[i].tensor));
        try {
            session.check_feed(*port, value);
        } catch (Error& e) {
            throw Failure(Code::invalid_argument, cat("model '", served.name, "': ", e.message()));
        }
        inputs[static_cast<size_t>(port - ports.data())] = std::move(value);
    }
    std::string missing;
    for (size_t i = 0; i < ports.size(); ++i)
        if (inputs[i].kind == Value::Kind::absent && !ports[i].fact.optional)
            missing += (missing.empty() ? "'" : ", '") + ports[i].name + "'";
    if (!missing.empty())
        refuse(Code::invalid_argument, "model '", served.name, "' needs ", ports.size(), " inputs; missing: ", missing);
    return inputs;
}

std::vector<size_t> bind_outputs(const Served& served, const std::vector<WantedOutput>& asked) {
    const auto& ports = served.session->outputs();
    std::vector<size_t> wanted;
    if (asked.empty()) {
        for (size_t i = 0; i < ports.size(); ++i) wanted.push_back(i);
        return wanted;
    }
    for (const WantedOutput& output : asked) {
        size_t index = 0;
        while (index < ports.size() && ports[index].name != output.name) ++index;
        if (index == ports.size())
            refuse(Code::invalid_argument, "model '", served.name, "' has no output '", output.name,
                   "'; its outputs are ", quoted_names(ports));
        if (std::find(wanted.begin(), wanted.end(), index) != wanted.end())
            refuse(Code::invalid_argument, "output '", output.name, "' is asked for twice");
        wanted.push_back(index);
    }
    return wanted;
}

// The rows that the inputs agree on; 0 when they do not.
int64_t common_rows(const std::vector<Value>& inputs) {
    int64_t rows = -1;
    for (const Value& input : inputs) {
        if (input.kind == Value::Kind::absent) continue;
        if (input.kind != Value::Kind::tensor || input.tensor.shape.empty()) return 0;
        if (rows >= 0 && rows != input.tensor.shape[0]) return 0;
        rows = input.tensor.shape[0];
    }
    return std::max<int64_t>(0, rows);
}

void watch(const Served& served, const Job& job) {
    const Session& session = *served.session;
    for (size_t i = 0; i < job.inputs.size(); ++i)
        if (job.inputs[i].kind == Value::Kind::tensor)
            served.drift->observe(session.inputs()[i].name, false, job.inputs[i].tensor);
    for (size_t i = 0; i < job.wanted.size(); ++i)
        served.drift->observe(session.outputs()[job.wanted[i]].name, true, job.outputs[i]);
    served.drift->end_request();
}

}  // namespace

struct Engine::Call {
    explicit Call(const CallOptions& options) : options(options) {}
    const CallOptions& options;
    Clock::time_point start = Clock::now();
    size_t bytes = 0;
    Request request;
    std::shared_ptr<Served> served;
    Job job;
    nanoseconds decoded{0}, encoded{0};
};

Engine::Engine(int cpus, uint64_t max_bytes_in_flight)
    : scheduler_(cpus > 0 ? cpus : available_cpus()), budget_(max_bytes_in_flight) {}

void Engine::set_model(const std::string& name, ModelEntry entry) {
    registry_.set(name, std::move(entry));
    scheduler_.forget_idle();
}

void Engine::remove_model(const std::string& name) {
    registry_.remove(name);
    scheduler_.forget_idle();
}

std::shared_ptr<Served> Engine::find(Call& call) {
    const Request& r = call.request;
    const std::string& key = r.sequence.empty() ? r.id : r.sequence;
    const uint64_t number = calls_.fetch_add(1, std::memory_order_relaxed);
    return registry_.resolve(r.model, r.version, r.label, key.empty() ? number : hash_of(key));
}

void Engine::answer(Call& call, Response& response) {
    Request& request = call.request;
    const Served& served = *call.served;
    if (!request.signature.empty() && request.signature != kSignature)
        refuse(Code::failed_precondition, "model '", served.name, "' has no signature '", request.signature,
               "'; it has '", kSignature, "'");
    Job& job = call.job;
    job.served = call.served;
    job.inputs = bind_inputs(served, request.inputs);
    job.wanted = bind_outputs(served, request.outputs);
    const Limits& limits = served.limits;
    if (limits.max_batch > 1 || limits.refuse_larger) {
        job.rows = common_rows(job.inputs);
        job.alone = job.rows == 0;
        if (limits.refuse_larger && job.rows > limits.max_batch)
            refuse(Code::invalid_argument, "the request has ", job.rows, " rows, but model '", served.name,
                   "' takes at most ", limits.max_batch, " (max_batch_size)");
        job.rows = std::max<int64_t>(1, job.rows);
    }
    job.bytes = call.bytes;
    job.priority = static_cast<uint32_t>(std::min<uint64_t>(request.priority, 1u << 30));
    job.deadline = call.options.deadline;
    const auto timeout =
        request.timeout_us > 0 ? std::chrono::microseconds(request.timeout_us) : limits.default_timeout;
    constexpr std::chrono::microseconds kLongest = std::chrono::hours(24 * 365);
    if (timeout.count() > 0) job.deadline = std::min(job.deadline, call.start + std::min(timeout, kLongest));
    job.cancel = call.options.cancel;
    job.at_once = call.options.at_once;
    job.arrival = Clock::now();
    call.decoded = job.arrival - call.start;
    scheduler_.run(job);
    if (served.drift) watch(served, job);
    response.answer.model = served.name;
    response.answer.version = served.version;
    for (size_t i = 0; i < job.wanted.size(); ++i)
        response.answer.outputs.push_back({served.session->outputs()[job.wanted[i]].name, std::move(job.outputs[i])});
}

template <class Decode, class Encode>
Response Engine::handle(Protocol protocol, Bytes bytes, const CallOptions& options, const Decode& decode,
                        const Encode& encode) {
    Call call(options);
    call.bytes = bytes.size();
    Response response;
    std::optional<Failure> failure;
    struct InFlight {
        std::shared_ptr<Served> served;
        ~InFlight() {
            if (served) served->statistics.in_flight.fetch_sub(1, std::memory_order_relaxed);
        }
    } in_flight;
    struct Held {
        Budget& budget;
        uint64_t count = 0;
        ~Held() { budget.give(count); }
    } held{budget_};
    try {
        if (protocol == Protocol::oip_grpc || protocol == Protocol::tensorflow_grpc) {
            budget_.take(bytes.size());
            held.count = bytes.size();
        }
        decode(call);
        if (!call.served) call.served = find(call);
        in_flight.served = call.served;
        call.served->statistics.in_flight.fetch_add(1, std::memory_order_relaxed);
        answer(call, response);
        const auto before = Clock::now();
        encode(call.request, response);
        call.encoded = Clock::now() - before;
    } catch (const NotAtOnce&) {
        throw;
    } catch (...) {
        failure = failure_of(std::current_exception());
    }

    const nanoseconds total = Clock::now() - call.start;
    const Code code = failure ? failure->code() : Code::ok;
    const auto p = static_cast<size_t>(protocol), c = static_cast<size_t>(code);
    const Job& job = call.job;
    if (call.served) {
        Statistics& s = call.served->statistics;
        add(s.requests[p][c]);
        add(s.bytes_in, call.bytes);
        add(s.bytes_out, response.pieces.size());
        if (!failure) {
            s.latency[p].record(total);
            s.success.add(total);
            s.queue.add(job.queued);
            s.decode.add(call.decoded);
            s.run.add(job.ran);
            s.encode.add(call.encoded);
            add(s.rows, static_cast<uint64_t>(job.rows));
            const auto now = std::chrono::system_clock::now().time_since_epoch();
            s.last_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
        } else {
            s.fail.add(total);
        }
    } else {
        add(strays_[p][c]);
    }
    if (journal_.enabled()) {
        JournalEntry entry;
        const auto start = [](std::string_view text) { return text.substr(0, JournalEntry::kMostText); };
        entry.model = start(call.request.model);
        entry.id = start(call.request.id);
        entry.traceparent = start(options.traceparent);
        if (failure) entry.message = start(failure->message());
        entry.version = call.served ? call.served->version : 0;
        entry.protocol = protocol;
        entry.code = code;
        entry.end = std::chrono::system_clock::now();
        entry.total = total;
        entry.decode = call.decoded;
        entry.queue = job.queued;
        entry.run = job.ran;
        entry.encode = call.encoded;
        entry.rows = job.rows;
        entry.batch = job.batch;
        entry.bytes_in = call.bytes;
        entry.bytes_out = response.pieces.size();
        journal_.add(std::move(entry));
    }
    if (failure) throw Failure(*failure);
    return response;
}

Response Engine::infer_oip(Bytes request, const CallOptions& options) {
    return handle(
        Protocol::oip_grpc, request, options, [&](Call& call) { call.request = decode_oip(request); },
        [](const Request& r, Response& out) { out.pieces = encode_oip(r, out.answer); });
}

Response Engine::infer_oip_stream(Bytes request, const CallOptions& options, bool raise_errors) {
    std::string id;
    try {
        return handle(
            Protocol::oip_grpc, request, options,
            [&](Call& call) {
                call.request = decode_oip(request);
                id = call.request.id;
            },
            [](const Request& r, Response& out) { out.pieces = encode_oip_stream(r, out.answer); });
    } catch (const Failure& failure) {
        if (raise_errors) throw;
        Response response;
        response.pieces = encode_oip_stream_error(id, failure.message());
        return response;
    }
}

Response Engine::predict_tensorflow(Bytes request, const CallOptions& options) {
    return handle(
        Protocol::tensorflow_grpc, request, options,
        [&](Call& call) {
            call.request = decode_tensorflow(request);
            if (call.request.signature.empty()) call.request.signature = kSignature;
        },
        [](const Request& r, Response& out) { out.pieces = encode_tensorflow(r, out.answer); });
}

Response Engine::infer_rest_v2(Bytes body, int64_t json_size, const Address& address, const CallOptions& options) {
    return handle(
        Protocol::oip_rest, body, options,
        [&](Call& call) {
            call.request.model = address.model;
            Request request = decode_rest_v2(body, json_size);
            request.model = address.model;
            request.version = address.version;
            call.request = std::move(request);
        },
        [](const Request& r, Response& out) { out.pieces = encode_rest_v2(r, out.answer, out.json_size); });
}

Response Engine::predict_rest_v1(Bytes body, const Address& address, const CallOptions& options) {
    return handle(
        Protocol::tensorflow_rest, body, options,
        [&](Call& call) {
            call.request.model = address.model;
            call.request.version = address.version;
            call.request.label = address.label;
            call.served = find(call);
            Request request = decode_rest_v1(body, call.served->session->inputs());
            request.model = address.model;
            call.request = std::move(request);
        },
        [](const Request& r, Response& out) { out.pieces = encode_rest_v1(r, out.answer); });
}

}  // namespace linnet::serve
