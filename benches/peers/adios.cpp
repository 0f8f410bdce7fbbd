// One side of a measurement over ADIOS2, in C++ so that no interpreter is timed.
//
//   adios writer|reader ENGINE STREAM MEETING BYTES PACED STREAMED
//   adios grid-writer|grid-reader ENGINE STREAM MEETING BYTES WARM STREAMED [RANK]
//
// The pace is that of `panta bench`: the reader asks over the Unix socket MEETING for
// one step ('1') or for all the others ('*'), and ends with '.'. A step's latency runs
// from the stamp its writer took before the step until the reader has looked at its
// last element. Puts are of two arrays made beforehand, in turn.

#include <adios2.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(const std::string &what) {
    std::fprintf(stderr, "adios: %s\n", what.c_str());
    std::exit(1);
}

uint64_t nanoseconds(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return uint64_t(now.tv_sec) * 1000000000u + uint64_t(now.tv_nsec);
}

uint64_t value(uint64_t step, uint64_t index) {
    return 0x3FF0000000000000u | ((step * 0x9E3779B97F4A7C15u + index) & ((uint64_t(1) << 52) - 1));
}

void fill(double *field, size_t elements, uint64_t step, uint64_t first) {
    auto *bits = reinterpret_cast<uint64_t *>(field);
    for (size_t i = 0; i < elements; ++i)
        bits[i] = value(step, first + i);
}

void check(const double *field, size_t elements, uint64_t step, uint64_t first) {
    const auto *bits = reinterpret_cast<const uint64_t *>(field);
    uint64_t differing = 0;
    for (size_t i = 0; i < elements; ++i)
        differing |= bits[i] ^ value(step, first + i);
    if (differing)
        fail("step " + std::to_string(step) + " is not what was put");
}

class Meeting {
  public:
    static Meeting listen_at(const char *path) {
        Meeting meeting;
        meeting.listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
        auto address = of(path);
        if (::bind(meeting.listener, reinterpret_cast<sockaddr *>(&address), sizeof address) ||
            ::listen(meeting.listener, 4))
            fail("cannot listen on the meeting socket");
        return meeting;
    }
    static Meeting connect_to(const char *path) {
        Meeting meeting;
        meeting.stream = ::socket(AF_UNIX, SOCK_STREAM, 0);
        auto address = of(path);
        if (::connect(meeting.stream, reinterpret_cast<sockaddr *>(&address), sizeof address))
            fail("cannot connect to the meeting socket");
        return meeting;
    }
    void accept() { stream = ::accept(listener, nullptr, nullptr); }
    char hear() {
        char word = '.';
        return ::read(stream, &word, 1) == 1 ? word : '.';
    }
    void say(char word) {
        if (::write(stream, &word, 1) != 1)
            fail("the other side is gone");
    }

  private:
    static sockaddr_un of(const char *path) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
        return address;
    }
    int listener = -1, stream = -1;
};

// Bounded, and no step is dropped, as with Panta's defaults: 256 MiB of steps, though at
// least four and at most a thousand of them.
adios2::IO io_of(adios2::ADIOS &adios, const std::string &engine, int readers, size_t bytes) {
    const size_t queue = std::clamp<size_t>((256u << 20) / bytes, 4, 1000);
    auto io = adios.DeclareIO("bench");
    io.SetEngine(engine);
    if (engine == "SST")
        io.SetParameters({{"RendezvousReaderCount", std::to_string(readers)},
                          {"QueueLimit", std::to_string(queue)},
                          {"QueueFullPolicy", "Block"}});
    else
        io.SetParameters({{"OpenTimeoutSecs", "60"}, {"BeginStepPollingFrequencySecs", "0.0001"}});
    return io;
}

void expect_step(adios2::Engine &engine) {
    if (engine.BeginStep(adios2::StepMode::Read, 60.0f) != adios2::StepStatus::OK)
        fail("no step came within 60 s");
}

int write(char **a) {
    const size_t elements = std::strtoull(a[5], nullptr, 10) / 8;
    const uint64_t paced = std::strtoull(a[6], nullptr, 10);
    const uint64_t warm = std::strtoull(a[8], nullptr, 10);
    const uint64_t all = paced + warm + std::strtoull(a[7], nullptr, 10);
    auto meeting = Meeting::listen_at(a[4]);
    std::puts("ready");
    std::fflush(stdout);
    std::vector<double> fields[2] = {std::vector<double>(elements), std::vector<double>(elements)};
    for (uint64_t step = 0; step < 2; ++step)
        fill(fields[step].data(), elements, step, 0);
    adios2::ADIOS adios;
    auto io = io_of(adios, a[2], 1, elements * 8);
    auto u = io.DefineVariable<double>("u", {elements}, {0}, {elements}, adios2::ConstantDims);
    auto stamp = io.DefineVariable<uint64_t>("stamp");
    auto engine = io.Open(a[3], adios2::Mode::Write);
    meeting.accept();
    for (uint64_t step = 0; step < all;) {
        const char word = meeting.hear();
        const uint64_t until = word == '1' ? step + 1 : word == '*' ? all : step;
        if (until == step)
            break;
        for (; step < until; ++step) {
            const uint64_t now = nanoseconds(CLOCK_REALTIME);
            engine.BeginStep();
            engine.Put(u, fields[step % 2].data(), adios2::Mode::Sync);
            engine.Put(stamp, now);
            engine.EndStep();
        }
    }
    engine.Close();
    return 0;
}

int read(char **a) {
    const size_t elements = std::strtoull(a[5], nullptr, 10) / 8;
    const uint64_t paced = std::strtoull(a[6], nullptr, 10);
    const uint64_t streamed = std::strtoull(a[7], nullptr, 10);
    const uint64_t timed = paced + std::strtoull(a[8], nullptr, 10);
    auto meeting = Meeting::connect_to(a[4]);
    adios2::ADIOS adios;
    auto io = io_of(adios, a[2], 1, elements * 8);
    const uint64_t opening = nanoseconds(CLOCK_MONOTONIC);
    auto engine = io.Open(a[3], adios2::Mode::Read);
    const uint64_t opened = nanoseconds(CLOCK_MONOTONIC);
    std::vector<double> field(elements);
    std::vector<double> latencies;
    auto receive = [&](uint64_t step) {
        expect_step(engine);
        uint64_t stamp = 0;
        auto u = io.InquireVariable<double>("u");
        u.SetSelection({{0}, {elements}});
        engine.Get(u, field.data());
        engine.Get(io.InquireVariable<uint64_t>("stamp"), stamp);
        engine.EndStep();
        check(field.data(), elements, step % 2, 0);
        return stamp;
    };
    for (uint64_t step = 0; step < paced; ++step) {
        meeting.say('1');
        const uint64_t stamp = receive(step);
        latencies.push_back(double(nanoseconds(CLOCK_REALTIME) - stamp) / 1e3);
    }
    meeting.say('*');
    for (uint64_t step = paced; step < timed; ++step)
        receive(step);
    const uint64_t begin = nanoseconds(CLOCK_MONOTONIC);
    for (uint64_t step = timed; step < timed + streamed; ++step)
        receive(step);
    const double seconds = double(nanoseconds(CLOCK_MONOTONIC) - begin) / 1e9;
    std::sort(latencies.begin(), latencies.end());
    std::printf("{\"seconds\": %.9f, \"p50_us\": %.3f, \"open_ms\": %.3f}\n", seconds,
                latencies.empty() ? 0.0 : latencies[latencies.size() / 2],
                double(opened - opening) / 1e6);
    std::fflush(stdout);
    engine.Close();
    return 0;
}

// Four row blocks of one array; readers take half of the columns each.
constexpr size_t COLUMNS = 8192, BLOCKS = 4, READERS = 2;

int grid_write(char **a) {
    const size_t rows = std::strtoull(a[5], nullptr, 10) / (COLUMNS * 8);
    const size_t part = rows / BLOCKS;
    const uint64_t all = std::strtoull(a[6], nullptr, 10) + std::strtoull(a[7], nullptr, 10);
    std::vector<double> fields[2] = {std::vector<double>(rows * COLUMNS),
                                     std::vector<double>(rows * COLUMNS)};
    for (uint64_t step = 0; step < 2; ++step)
        fill(fields[step].data(), rows * COLUMNS, step, 0);
    adios2::ADIOS adios;
    auto io = io_of(adios, a[2], READERS, rows * COLUMNS * 8);
    auto u = io.DefineVariable<double>("u", {rows, COLUMNS}, {0, 0}, {part, COLUMNS});
    std::puts("ready");
    std::fflush(stdout);
    auto engine = io.Open(a[3], adios2::Mode::Write);
    for (uint64_t step = 0; step < all; ++step) {
        engine.BeginStep();
        for (size_t block = 0; block < BLOCKS; ++block) {
            u.SetSelection({{block * part, 0}, {part, COLUMNS}});
            engine.Put(u, fields[step % 2].data() + block * part * COLUMNS, adios2::Mode::Sync);
        }
        engine.EndStep();
    }
    engine.Close();
    return 0;
}

int grid_read(char **a) {
    const size_t rows = std::strtoull(a[5], nullptr, 10) / (COLUMNS * 8);
    const uint64_t warm = std::strtoull(a[6], nullptr, 10);
    const uint64_t streamed = std::strtoull(a[7], nullptr, 10);
    const size_t rank = std::strtoull(a[8], nullptr, 10), part = COLUMNS / READERS;
    adios2::ADIOS adios;
    auto io = io_of(adios, a[2], READERS, rows * COLUMNS * 8);
    auto engine = io.Open(a[3], adios2::Mode::Read);
    std::vector<double> field(rows * part);
    uint64_t begin = 0;
    for (uint64_t step = 0; step < warm + streamed; ++step) {
        if (step == warm)
            begin = nanoseconds(CLOCK_MONOTONIC);
        expect_step(engine);
        auto u = io.InquireVariable<double>("u");
        u.SetSelection({{0, rank * part}, {rows, part}});
        engine.Get(u, field.data());
        engine.EndStep();
        for (size_t row = 0; row < rows; ++row)
            check(field.data() + row * part, part, step % 2, row * COLUMNS + rank * part);
    }
    std::printf("{\"seconds\": %.9f}\n", double(nanoseconds(CLOCK_MONOTONIC) - begin) / 1e9);
    std::fflush(stdout);
    engine.Close();
    return 0;
}

} // namespace

int main(int count, char **a) {
    if (count < 8)
        fail("see the head of this file for the arguments");
    const std::string role = a[1];
    try {
        if (role == "writer")
            return write(a);
        if (role == "reader")
            return read(a);
        if (role == "grid-writer")
            return grid_write(a);
        if (role == "grid-reader" && count > 8)
            return grid_read(a);
    } catch (const std::exception &error) {
        fail(error.what());
    }
    fail("no role " + role);
}
