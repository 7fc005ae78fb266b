// The engine behind every transport: a request's bytes in, the answer's bytes out, or a Failure. Thread-safe: each call
// runs in its caller's thread from beginning to end.
#pragma once
#include <atomic>
#include <string>
#include <string_view>

#include "serve/budget.h"
#include "serve/codecs.h"
#include "serve/journal.h"
#include "serve/registry.h"
#include "serve/scheduler.h"

namespace linnet::serve {

struct CallOptions {
    Clock::time_point deadline = Clock::time_point::max();
    Cancel* cancel = nullptr;
    std::string_view traceparent;  // W3C trace context, for the journal
    bool at_once = false;          // or NotAtOnce is thrown, and nothing is counted
};

// What a REST call's address says.
struct Address {
    std::string_view model, version, label;
};

// The bytes of an answer, with the tensors that they are taken from.
struct Response {
    Answer answer;
    Pieces pieces;
    int64_t json_size = -1;  // REST v2 with tensors as bytes: the length of the JSON before them
};

class Engine {
  public:
    // `cpus` 0: as many as the process may use. gRPC's messages, which arrive whole, are taken from the budget here;
    // a transport that reads bodies piece by piece does so itself.
    explicit Engine(int cpus, uint64_t max_bytes_in_flight);

    Registry& registry() { return registry_; }
    Journal& journal() { return journal_; }
    Budget& budget() { return budget_; }
    void set_model(const std::string& name, ModelEntry entry);
    void remove_model(const std::string& name);

    Response infer_oip(Bytes request, const CallOptions& options);
    // A failure is in the bytes unless `raise_errors`.
    Response infer_oip_stream(Bytes request, const CallOptions& options, bool raise_errors = false);
    Response predict_tensorflow(Bytes request, const CallOptions& options);
    Response infer_rest_v2(Bytes body, int64_t json_size, const Address& address, const CallOptions& options);
    Response predict_rest_v1(Bytes body, const Address& address, const CallOptions& options);

    // Prometheus' text format. `triton_names` adds Triton's nv_inference_* series.
    std::string metrics(bool triton_names) const;

  private:
    struct Call;
    template <class Decode, class Encode>
    Response handle(Protocol protocol, Bytes request, const CallOptions& options, const Decode& decode,
                    const Encode& encode);
    void answer(Call& call, Response& response);
    std::shared_ptr<Served> find(Call& call);

    Registry registry_;
    Scheduler scheduler_;
    Journal journal_;
    Budget budget_;
    std::atomic<uint64_t> calls_{0};
    // Failures of requests that name no model that is here.
    std::array<std::array<Count, kCodes>, kProtocols> strays_{};
};

}  // namespace linnet::serve
