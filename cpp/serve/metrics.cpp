// Prometheus' text format (version 0.0.4) of all that is counted.
#include <cstdio>

#include "serve/server.h"

namespace linnet::serve {
namespace {

constexpr const char* kCodeNames[kCodes] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

uint64_t value(const Count& count) { return count.load(std::memory_order_relaxed); }

std::string number(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", x);
    return text;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || c == '"') out += '\\';
        if (c == '\n') out += "\\n";
        else out += c;
    }
    return out;
}

class Text {
  public:
    void head(const char* name, const char* type, const char* help) {
        out_ += cat("# HELP ", name, ' ', help, "\n# TYPE ", name, ' ', type, '\n');
    }
    void line(std::string_view name, const std::string& labels, const std::string& value) {
        out_ += name;
        if (!labels.empty()) out_ += '{' + labels + '}';
        out_ += ' ' + value + '\n';
    }
    void append(const std::string& more) { out_ += more; }
    std::string take() { return std::move(out_); }

  private:
    std::string out_;
};

struct Row {
    const Served* served;
    std::string labels;
};

// One series for each version, from a function of its statistics.
template <class Fn>
void series(Text& text, const char* name, const char* type, const char* help, const std::vector<Row>& rows,
            const Fn& fn) {
    text.head(name, type, help);
    for (const Row& row : rows) text.line(name, row.labels, fn(row.served->statistics));
}

std::string count(const Count& c) { return std::to_string(value(c)); }
std::string seconds(const Spent& spent) { return number(static_cast<double>(value(spent.ns)) / 1e9); }
std::string microseconds(const Spent& spent) { return std::to_string(value(spent.ns) / 1000); }

void latencies(Text& text, const std::vector<Row>& rows) {
    const char* name = "linnet_request_duration_seconds";
    text.head(name, "histogram", "From a request's bytes to its answer's, of requests that ended well.");
    for (const Row& row : rows) {
        for (size_t p = 0; p < kProtocols; ++p) {
            const Histogram& h = row.served->statistics.latency[p];
            uint64_t below = 0;
            std::string lines;
            const std::string labels = cat(row.labels, ",protocol=\"", kProtocolNames[p], '"');
            Text part;
            for (int b = 0; b < Histogram::kBuckets; ++b) {
                below += h.bucket(b);
                const int octave = b / Histogram::kPerOctave;
                const bool edge = b % Histogram::kPerOctave == Histogram::kPerOctave - 1;
                if (edge && octave >= 4 && octave <= 24)  // 32 us to 33 s
                    part.line("linnet_request_duration_seconds_bucket",
                              cat(labels, ",le=\"", number(Histogram::upper_us(b) / 1e6), '"'), std::to_string(below));
            }
            if (below == 0) continue;
            part.line("linnet_request_duration_seconds_bucket", labels + ",le=\"+Inf\"", std::to_string(below));
            part.line("linnet_request_duration_seconds_sum", labels, number(static_cast<double>(h.total_ns()) / 1e9));
            part.line("linnet_request_duration_seconds_count", labels, std::to_string(below));
            text.append(part.take());
        }
    }
}

void batch_sizes(Text& text, const std::vector<Row>& rows) {
    text.head("linnet_batch_rows", "histogram", "Rows of a run of the model.");
    for (const Row& row : rows) {
        const auto& batches = row.served->statistics.batches;
        uint64_t below = 0, sum = 0;
        for (size_t rows = 1; rows < batches.size(); ++rows) {
            below += value(batches[rows].count);
            sum += value(batches[rows].count) * rows;
            if ((rows & (rows - 1)) == 0 || rows + 1 == batches.size())
                text.line("linnet_batch_rows_bucket", cat(row.labels, ",le=\"", rows, '"'), std::to_string(below));
        }
        text.line("linnet_batch_rows_bucket", row.labels + ",le=\"+Inf\"", std::to_string(below));
        text.line("linnet_batch_rows_sum", row.labels, std::to_string(sum));
        text.line("linnet_batch_rows_count", row.labels, std::to_string(below));
    }
}

void drifts(Text& text, const std::vector<Row>& rows) {
    struct Gauge {
        const char *name, *help;
        double DriftRow::*value;
    };
    const Gauge gauges[] = {
        {"linnet_drift_psi", "Population stability index of a tensor's elements against the reference.",
         &DriftRow::psi},
        {"linnet_drift_ks", "Kolmogorov-Smirnov distance of a tensor's elements from the reference.", &DriftRow::ks},
        {"linnet_drift_nan_ratio", "Share of a tensor's elements that are no numbers.", &DriftRow::nans},
        {"linnet_drift_elements", "Elements that these figures are from.", &DriftRow::elements}};
    std::vector<std::pair<std::string, DriftRow>> found;
    for (const Row& row : rows)
        if (row.served->drift)
            for (DriftRow& drift : row.served->drift->rows())
                found.emplace_back(cat(row.labels, ",tensor=\"", escaped(drift.name), "\",side=\"",
                                       drift.output ? "output" : "input", '"'),
                                   std::move(drift));
    if (found.empty()) return;
    for (const Gauge& gauge : gauges) {
        text.head(gauge.name, "gauge", gauge.help);
        for (const auto& [labels, drift] : found) text.line(gauge.name, labels, number(drift.*gauge.value));
    }
}

uint64_t failures(const Statistics& s, bool (*of)(size_t code)) {
    uint64_t total = 0;
    for (const auto& codes : s.requests)
        for (size_t c = 1; c < kCodes; ++c)
            if (of(c)) total += value(codes[c]);
    return total;
}

// The names that Triton documents for its own metrics (docs/user_guide/metrics.md), for dashboards that have them.
void triton_series(Text& text, const std::vector<Row>& rows) {
    series(text, "nv_inference_request_success", "counter", "Successful requests.", rows,
           [](const Statistics& s) { return count(s.success.count); });
    text.head("nv_inference_request_failure", "counter", "Failed requests.");
    for (const Row& row : rows) {
        const Statistics& s = row.served->statistics;
        const auto is_cancelled = [](size_t c) { return c == static_cast<size_t>(Code::cancelled); };
        const auto is_rejected = [](size_t c) {
            return c == static_cast<size_t>(Code::unavailable) || c == static_cast<size_t>(Code::deadline_exceeded);
        };
        const uint64_t all = failures(s, [](size_t) { return true; }), cancelled = failures(s, is_cancelled),
                       rejected = failures(s, is_rejected);
        const std::pair<const char*, uint64_t> reasons[] = {
            {"REJECTED", rejected}, {"CANCELED", cancelled}, {"OTHER", all - cancelled - rejected}};
        for (const auto& [reason, amount] : reasons)
            text.line("nv_inference_request_failure", cat(row.labels, ",reason=\"", reason, '"'),
                      std::to_string(amount));
    }
    series(text, "nv_inference_count", "counter", "Inferences (rows).", rows,
           [](const Statistics& s) { return count(s.rows); });
    series(text, "nv_inference_exec_count", "counter", "Runs of the model.", rows,
           [](const Statistics& s) { return count(s.executions); });
    series(text, "nv_inference_pending_request_count", "gauge", "Requests that wait.", rows,
           [](const Statistics& s) { return std::to_string(s.queued.load(std::memory_order_relaxed)); });
    const std::pair<const char*, Spent Statistics::*> spent[] = {
        {"nv_inference_request_duration_us", &Statistics::success},
        {"nv_inference_queue_duration_us", &Statistics::queue},
        {"nv_inference_compute_input_duration_us", &Statistics::decode},
        {"nv_inference_compute_infer_duration_us", &Statistics::run},
        {"nv_inference_compute_output_duration_us", &Statistics::encode}};
    for (const auto& [name, member] : spent)
        series(text, name, "counter", "Microseconds in total.", rows,
               [member = member](const Statistics& s) { return microseconds(s.*member); });
}

}  // namespace

std::string Engine::metrics(bool triton_names) const {
    const auto models = registry_.all();
    std::vector<Row> rows;
    for (const auto& [name, entry] : models)
        for (const auto& served : entry->versions)
            rows.push_back({served.get(), cat("model=\"", escaped(name), "\",version=\"", served->version, '"')});
    Text text;
    text.head("linnet_requests_total", "counter", "Requests that ended, by protocol and gRPC's status code.");
    for (const Row& row : rows)
        for (size_t p = 0; p < kProtocols; ++p)
            for (size_t c = 0; c < kCodes; ++c)
                if (const uint64_t n = value(row.served->statistics.requests[p][c]))
                    text.line("linnet_requests_total",
                              cat(row.labels, ",protocol=\"", kProtocolNames[p], "\",code=\"", kCodeNames[c], '"'),
                              std::to_string(n));
    text.head("linnet_unmatched_requests_total", "counter", "Requests that reached no model.");
    for (size_t p = 0; p < kProtocols; ++p)
        for (size_t c = 0; c < kCodes; ++c)
            if (const uint64_t n = value(strays_[p][c]))
                text.line("linnet_unmatched_requests_total",
                          cat("protocol=\"", kProtocolNames[p], "\",code=\"", kCodeNames[c], '"'), std::to_string(n));
    text.head("linnet_requests_over_memory_total", "counter",
              "Requests refused because others took max_bytes_in_flight.");
    text.line("linnet_requests_over_memory_total", "", std::to_string(budget_.refused()));
    text.head("linnet_request_memory_bytes", "gauge", "Bytes of requests under way.");
    text.line("linnet_request_memory_bytes", "", std::to_string(budget_.used()));
    latencies(text, rows);
    text.head("linnet_stage_seconds_total", "counter", "Where requests that ended well spent their time.");
    const std::pair<const char*, Spent Statistics::*> stages[] = {{"decode", &Statistics::decode},
                                                                  {"queue", &Statistics::queue},
                                                                  {"run", &Statistics::run},
                                                                  {"encode", &Statistics::encode}};
    for (const Row& row : rows)
        for (const auto& [stage, member] : stages)
            text.line("linnet_stage_seconds_total", cat(row.labels, ",stage=\"", stage, '"'),
                      seconds(row.served->statistics.*member));
    series(text, "linnet_rows_total", "counter", "Rows inferred.", rows,
           [](const Statistics& s) { return count(s.rows); });
    batch_sizes(text, rows);
    series(text, "linnet_requests_waiting", "gauge", "Requests in the queue.", rows,
           [](const Statistics& s) { return std::to_string(s.queued.load(std::memory_order_relaxed)); });
    series(text, "linnet_requests_in_flight", "gauge", "Requests that wait or run.", rows,
           [](const Statistics& s) { return std::to_string(s.in_flight.load(std::memory_order_relaxed)); });
    series(text, "linnet_request_bytes_total", "counter", "Bytes of requests.", rows,
           [](const Statistics& s) { return count(s.bytes_in); });
    series(text, "linnet_response_bytes_total", "counter", "Bytes of answers.", rows,
           [](const Statistics& s) { return count(s.bytes_out); });
    drifts(text, rows);
    if (triton_names) triton_series(text, rows);
    return text.take();
}

}  // namespace linnet::serve
