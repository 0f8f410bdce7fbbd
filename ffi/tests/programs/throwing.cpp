// The C++ interface with exceptions: throwing URL.
#include <panta.hpp>

#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>

#define THAT(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__,  \
                         #condition);                                          \
            std::exit(1);                                                      \
        }                                                                      \
    } while (0)

// What std::mdspan has, as far as panta.hpp needs it; column-major here.
template <typename T> struct Columns {
    using element_type = T;
    T *data;
    long rows, columns;
    static constexpr std::size_t rank() { return 2; }
    T *data_handle() const { return data; }
    long extent(std::size_t i) const { return i ? columns : rows; }
    long stride(std::size_t i) const { return i ? rows : 1; }
};

// Enough of an mdspan to be made of a view.
struct Made {
    using index_type = int;
    static constexpr std::size_t rank() { return 2; }
    struct extents_type {
        std::array<int, 2> of;
        explicit extents_type(std::array<int, 2> extents) : of(extents) {}
    };
    struct mapping_type {
        std::array<int, 2> extents, strides;
        mapping_type(extents_type extents, std::array<int, 2> strides) : extents(extents.of), strides(strides) {}
    };
    double *data;
    mapping_type mapping;
    Made(double *data, const mapping_type &mapping) : data(data), mapping(mapping) {}
};

static panta_status status_of(const std::function<void()> &act)
{
    try {
        act();
    } catch (const panta::Error &error) {
        THAT(*error.what());
        return error.status();
    }
    return PANTA_OK;
}

// What is done wrong is thrown with words that name it.
static void refused(panta_status status, const char *words, const std::function<void()> &act)
{
    try {
        act();
    } catch (const panta::Error &error) {
        THAT(std::strstr(error.fault().status_name(), "PANTA_") == error.fault().status_name());
        if (error.status() == status && std::strstr(error.what(), words))
            return;
        std::fprintf(stderr, "not '%s': %s\n", words, error.what());
        std::exit(1);
    }
    std::fprintf(stderr, "not refused: %s\n", words);
    std::exit(1);
}

static void misuse(const std::string &url)
{
    panta::Writer out = panta::Writer::open(url);
    auto u = out.define<double>("u", panta::Shape::global({4, 6}));
    double data[24] = {};
    const panta::View<double> field(data, {4, 6});
    const panta::View<double> row(data, {6});
    refused(PANTA_ERROR_SHAPE, "the array has 1 dimensions, the variable 2",
            [&] { out.begin_step().put(u, {0, 0}, row); });
    refused(PANTA_ERROR_SHAPE, "reach outside dimension 0",
            [&] { out.begin_step().put(u, {1, 0}, field); });
    refused(PANTA_ERROR_ARGUMENT, "`start` has -1",
            [&] { out.begin_step().put(u, {-1, 0}, field); });
    refused(PANTA_ERROR_UNKNOWN_VARIABLE, "the variable", [&] {
        panta::Writer other = panta::Writer::open("null:");
        other.begin_step().put(u, {0, 0}, field);
    });
    // What has other lengths than it should is never read beyond its end.
    const panta::Extents one{0};
    refused(PANTA_ERROR_SHAPE, "`start` has not one position for each dimension",
            [&] { out.begin_step().put(u, one, field); });
    refused(PANTA_ERROR_SHAPE, "`start` has not one position",
            [&] { out.begin_step().put_copied(u, {0, 0, 0}, field); });
    refused(PANTA_ERROR_SHAPE, "`start` has not one position",
            [&] { out.begin_step().put_owned(u, one, std::vector<double>(24), {4, 6}); });
    refused(PANTA_ERROR_SHAPE, "another size than its counts", [&] {
        const std::int64_t huge = std::int64_t{1} << 40;
        out.begin_step().put_owned(u, {0, 0}, std::vector<double>(24), {huge, huge});
    });
    refused(PANTA_ERROR_ARGUMENT, "zero byte", [&] { out.set_attribute("a", std::string("a\0b", 3)); });
    const std::string cut("u\0b", 3);
    refused(PANTA_ERROR_ARGUMENT, "zero byte", [&] { out.set_attribute(cut, 1.0); });
    refused(PANTA_ERROR_ARGUMENT, "zero byte", [&] { out.set_attribute("a", std::vector<std::string>{cut}); });
    refused(PANTA_ERROR_ARGUMENT, "the name holds a zero byte",
            [&] { out.define<double>(cut, panta::Shape::local(1)); });
    refused(PANTA_ERROR_ARGUMENT, "the unit holds a zero byte",
            [&] { out.define<double>("v", panta::Shape::local(1).unit(cut)); });
    refused(PANTA_ERROR_ARGUMENT, "the name of a dimension holds a zero byte",
            [&] { out.define<double>("v", panta::Shape::global({2}).dims({cut})); });
    refused(PANTA_ERROR_SHAPE, "not one stride for each of its extents",
            [&] { out.begin_step().put(u, {0, 0}, panta::View<double>(data, {4, 6}, {6})); });
    refused(PANTA_ERROR_SHAPE, "begins at other than one position for each dimension",
            [&] { out.begin_step().put(u, {0, 0}, field.part(one, {4, 6})); });
    refused(PANTA_ERROR_SHAPE, "span", [&] { out.begin_step().span(u, {0, 0}, {4}); });
    refused(PANTA_ERROR_SHAPE, "the shape has other dimensions", [&] { out.set_shape(u, {4}); });
    refused(PANTA_ERROR_ARGUMENT, "`definition.dimensions` is -1",
            [&] { out.define<double>("v", panta::Shape::local(-1)); });
    auto text = out.define<std::string>("text", panta::Shape::global_value());
    {
        panta::WriterStep fails = out.begin_step();
        refused(PANTA_ERROR_ARGUMENT, "zero byte", [&] { fails.put_value(text, std::string("a\0b", 3)); });
        // The step fails with it, as with every put that was refused.
        refused(PANTA_ERROR_REFUSED, "zero byte", [&] { fails.end(); });
    }
    panta::WriterStep step = out.begin_step();
    refused(PANTA_ERROR_STEP_OPEN, "step", [&] { out.begin_step(); });
    step.put(u, {0, 0}, field);
    step.end();
    const char *over = "this step has ended";
    refused(PANTA_ERROR_NO_STEP, over, [&] { step.put(u, {0, 0}, field); });
    refused(PANTA_ERROR_NO_STEP, over, [&] { step.put_owned(u, {0, 0}, std::vector<double>(24), {4, 6}); });
    refused(PANTA_ERROR_NO_STEP, over, [&] { step.span(u, {0, 0}, {4, 6}); });
    refused(PANTA_ERROR_NO_STEP, over, [&] { step.put_value(text, std::string("late")); });
    refused(PANTA_ERROR_NO_STEP, over, [&] { step.info(); });
    refused(PANTA_ERROR_NO_STEP, over, [&] { step.end(); });
    THAT(!step.is_discarded());
    step.abort();
    panta::Reader in = panta::Reader::open(url);
    auto found = in.next_step();
    refused(PANTA_ERROR_DTYPE, "f32", [&] { found->get<float>("u"); });
    refused(PANTA_ERROR_UNKNOWN_VARIABLE, "variable `uu`", [&] { found->get<double>("uu"); });
    refused(PANTA_ERROR_ARGUMENT, "the name holds a zero byte", [&] { found->get<double>(cut); });
    refused(PANTA_ERROR_ARGUMENT, "the name holds a zero byte", [&] { found->variable(cut); });
    refused(PANTA_ERROR_SELECTION, "outside",
            [&] { found->get<double>("u", panta::box({0, 3}, {4, 6})); });
    refused(PANTA_ERROR_SHAPE, "the buffer has [6] cells", [&] {
        found->get_into("u", panta::everything(), panta::View<double>(data, {6}));
    });
    refused(PANTA_ERROR_SELECTION, "not as many counts",
            [&] { found->get<double>("u", panta::box({0, 3}, {4})); });
    refused(PANTA_ERROR_SELECTION, "not as many counts",
            [&] { found->selected("u", panta::strided({0, 3}, {4, 1}, {1})); });
    refused(PANTA_ERROR_SHAPE, "stride", [&] {
        found->get_into("u", panta::everything(), panta::View<double>(data, {4, 6}, {6}));
    });
    refused(PANTA_ERROR_SELECTION, "not as many counts", [&] {
        found->batch().get_into("u", panta::box({0}, {4, 6}), panta::View<double>(data, {4, 6}));
    });
    refused(PANTA_ERROR_SHAPE, "another rank", [&] { row.as<Made>(); });
    in.interrupt();
    refused(PANTA_ERROR_INTERRUPTED, "interrupted",
            [&] { in.next_step(std::chrono::seconds(60)); });
    in.clear_interrupt();
    in.close();
    refused(PANTA_ERROR_CLOSED_HANDLE, "the step was closed", [&] { found->get<double>("u"); });
    refused(PANTA_ERROR_NULL, "the reader is NULL", [&] { in.next_step(); });
    out.close();
    refused(PANTA_ERROR_NULL, "the writer is NULL", [&] { out.begin_step(); });
    refused(PANTA_ERROR_COMMUNICATOR, "PANTA_RANK", [&] { panta::Comm::procs(); });
}

static void write(const std::string &url)
{
    panta::Writer out = panta::Writer::open(url);
    THAT(out.engine().engine == "file");
    auto u = out.define<double>("u", panta::Shape::global({4, 6}).dims({"y", "x"}).unit("K").fill(-1.0));
    auto owned = out.define<float>("owned", panta::Shape::local(1));
    auto rows = out.define<std::int32_t>("rows", panta::Shape::joined(0, {0, 2}));
    auto flags = out.define<bool>("flags", panta::Shape::global({3}));
    auto z = out.define<std::complex<double>>("z", panta::Shape::global_value());
    auto name = out.define<std::string>("name", panta::Shape::local_value());
    auto copied = out.define<double>("copied", panta::Shape::global({2}));
    auto lent = out.define<double>("lent", panta::Shape::global({2}));
    out.set_attribute("author", "n.n.");
    out.set_attribute("sizes", std::vector<int>{1, -2});
    out.set_attribute(u, "limits", std::vector<double>{0.5, 1.5});
    out.set_attribute(u, "words", std::vector<std::string>{"a", "b"});
    for (int n = 0; n < 2; n++) {
        panta::WriterStep step = out.begin_step(0.5 * n);
        THAT(step.number() == n && !step.is_discarded());
        THAT(step.info().epoch == 1 && step.info().time == 0.5 * n);
        // The middle of a field with one ghost cell on each side.
        std::vector<double> field(4 * 8);
        for (std::size_t i = 0; i < field.size(); i++)
            field[i] = static_cast<double>(i) + n;
        step.put(u, {0, 0}, panta::View(field.data(), {4, 8}).part({0, 1}, {2, 6}));
        auto span = step.span(u, {2, 0}, {1, 6});
        for (int x = 0; x < 6; x++)
            span(0, x) = 100 + x;
        step.put_owned(owned, {}, std::vector<float>{1, 2, 3}, {3});
        std::vector<std::int32_t> columns{1, 2, 3, 4, 5, 6};
        step.put(rows, {}, panta::View<std::int32_t>(Columns<std::int32_t>{columns.data(), 3, 2}));
        const bool flag[3] = {true, false, true};
        step.put(flags, {0}, panta::View(flag, {3}));
        step.put_value(z, {1.5, -2.5});
        step.put_value<std::string>(name, "first");
        step.put_value<std::string>(name, "second");
        double two[2] = {1, 2};
        step.put_copied(copied, {0}, panta::View<const double>(two, {2}));
        two[1] = 3;
        // What a release throws stays there: it runs within the library's call.
        int released = 0;
        step.put_lent(lent, {0}, panta::View<const double>(two, {2}), [&released] {
            ++released;
            throw std::runtime_error("from a release");
        });
        THAT(released == 0);
        THAT(step.end());
        THAT(released == 1);
    }
    {
        panta::WriterStep step = out.begin_step();
        step.put_value(z, {0, 0});
    } // given up
    THAT(status_of([&] { out.begin_step().put(u, {9, 9}, panta::View<const double>(nullptr, {0, 0})); }) ==
         PANTA_ERROR_SHAPE);
    THAT(out.group().rank == 0 && out.group().size == 1);
    THAT(out.copies().bytes > 0 && out.metadata_bytes() > 0);
    // Threads do it, where nothing else was asked for.
    out.progress();
    THAT(out.wait_fd() >= 0);
    out.freeze_definitions();
    THAT(status_of([&] { out.define<float>("later", panta::Shape::local(1)); }) == PANTA_ERROR_REDEFINED);
    THAT(status_of([&] { out.define<float>("u", panta::Shape::global({4, 6})); }) == PANTA_ERROR_REDEFINED);
    THAT(status_of([&] { out.define<float>("w", panta::Shape::global({4}).fill(1)); }) ==
         PANTA_ERROR_DEFINITION);
    out.close();
}

static void read(const std::string &url)
{
    panta::Interrupter interrupter = panta::Interrupter::make();
    panta_reader_options options = panta_default_reader_options();
    options.interrupter = interrupter.get();
    options.silence_ms = 600000;
    interrupter.interrupt();
    THAT(status_of([&] { panta::Reader::open(url + ".not", panta::Comm(), options); }) ==
         PANTA_ERROR_INTERRUPTED);
    interrupter.clear();
    panta::Reader in = panta::Reader::open(url, panta::Comm(), options);
    THAT(in.wait_fd() >= 0);
    in.progress();
    in.freeze_selections();
    std::optional<panta::Step> kept;
    int n = 0;
    while (auto step = in.next_step(std::chrono::seconds(30))) {
        panta_step_info info = step->info();
        THAT(info.number == n && info.time == 0.5 * n);
        auto u = step->get<double>("u");
        THAT(u.size() == 24 && u[0] == 1 + n && u[6] == 9 + n && u[12] == 100 && u[23] == -1);
        auto part = step->get<double>("u", panta::strided({1, 0}, {2, 3}, {1, 2}));
        THAT(part.size() == 6 && part[1] == 11 + n && part[5] == 104);
        std::vector<double> columns(24);
        step->get_into("u", panta::everything(), panta::View<double>(Columns<double>{columns.data(), 4, 6}));
        THAT(columns[1] == u[6] && columns[4] == u[1]);
        THAT(step->selected("u", panta::box({1, 1}, {})) == (panta::Extents{3, 5}));
        THAT((step->get<float>("owned", panta::block(0)) == std::vector<float>{1, 2, 3}));
        THAT((step->get<std::int32_t>("rows") == std::vector<std::int32_t>{1, 4, 2, 5, 3, 6}));
        bool flag[3] = {};
        step->get_into("flags", panta::everything(), panta::View<bool>(flag, {3}));
        THAT(flag[0] && !flag[1] && flag[2]);
        THAT(step->get_value<std::complex<double>>("z") == std::complex<double>(1.5, -2.5));
        THAT((step->get<double>("copied") == std::vector<double>{1, 2}));
        THAT((step->get<double>("lent") == std::vector<double>{1, 3}));
        THAT((step->get_texts("name") == std::vector<std::string>{"first", "second"}));
        THAT(step->get_value<std::string>("name") == "first");
        THAT(std::string(step->attribute("author").texts[0]) == "n.n.");
        THAT(step->attribute("sizes").i64s[1] == -2);
        THAT(step->attribute("u", "limits").f64s[1] == 1.5);
        THAT(info.attributes == 4 && std::string(step->attribute(std::uint64_t{0}).name) == "author");
        THAT(std::string(step->variable("u").unit) == "K");
        THAT(step->block("u", 1).start[0] == 2);
        std::vector<double> row(6);
        panta::Batch batch = step->batch();
        batch.get_into("u", panta::box({2, 0}, {1, 6}), panta::View<double>(row.data(), {1, 6}));
        batch.finish();
        THAT(row[5] == 105);
        THAT(status_of([&] { step->get<float>("u"); }) == PANTA_ERROR_DTYPE);
        THAT(status_of([&] { step->get<float>("w"); }) == PANTA_ERROR_UNKNOWN_VARIABLE);
        THAT(status_of([&] { step->view<double>("u", 0); }) == PANTA_ERROR_UNSUPPORTED);
        if (n++ == 0) {
            step->detach();
            kept = std::move(step);
        }
    }
    THAT(n == 2 && in.is_at_end());
    THAT(in.group().rank == 0 && in.group().size == 1);
    THAT(in.copies().bytes > 0 && in.metadata_bytes() > 0 && in.fetched_bytes() + 1 > 0);
    THAT(in.push_counts().used == 0);
    in.close();
    THAT(kept->get<double>("u")[0] == 1);
}

// As std::span is, which C++17 has not: elements of somebody else, without any of its own.
template <typename T> struct Run {
    T *first;
    std::size_t count;
    T *data() const { return first; }
    std::size_t size() const { return count; }
};

// Whether something can be put as it is.
template <typename A, typename = void> struct can_be_put : std::false_type {};
template <typename A>
struct can_be_put<A, std::void_t<decltype(std::declval<panta::WriterStep &>().put(
                         std::declval<panta::Variable<double>>(), panta::Extents(), std::declval<A>()))>>
    : std::true_type {};
static_assert(can_be_put<std::vector<double> &>::value && can_be_put<const std::vector<double> &>::value);
static_assert(can_be_put<std::array<double, 4> &>::value && can_be_put<Run<const double>>::value);
// What is gone before the step ends, and what has other elements.
static_assert(!can_be_put<std::vector<double>>::value && !can_be_put<std::array<double, 4>>::value);
static_assert(!can_be_put<Run<float>>::value && !can_be_put<std::vector<float> &>::value);

static void runs(const std::string &url)
{
    panta::Writer out = panta::Writer::open(url);
    auto u = out.define<double>("u", panta::Shape::global({4}));
    const std::array<double, 2> front{1, 2};
    std::vector<double> back{3, 4};
    panta::WriterStep step = out.begin_step();
    step.put(u, {0}, front);
    step.put(u, {2}, Run<double>{back.data(), back.size()});
    step.end();
    panta::WriterStep next = out.begin_step();
    next.put_copied(u, {0}, std::vector<double>{1, 2, 3, 4});
    next.end();
    out.close();
    panta::Reader in = panta::Reader::open(url);
    for (int n = 0; n < 2; n++) {
        auto found = in.next_step();
        std::array<double, 4> into{};
        found->get_into<double>("u", panta::everything(), into);
        THAT((into == std::array<double, 4>{1, 2, 3, 4}));
    }
}

// Ranks in threads, and ranks that a function reaches; what that throws is the reason.
static void groups(const std::string &url)
{
    std::vector<panta::Comm> comms = panta::Comm::threads(2);
    THAT(comms.size() == 2);
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < 2; rank++)
        ranks.emplace_back([&comms, &url, rank] {
            panta::Writer out = panta::Writer::open(url, comms[static_cast<std::size_t>(rank)]);
            THAT(out.group().rank == rank && out.group().size == 2);
            out.close();
        });
    for (std::thread &rank : ranks)
        rank.join();
    refused(PANTA_ERROR_ARGUMENT, "`size_of_group` is -1", [] { panta::Comm::threads(-1); });
    int asked = 0;
    auto alone = panta::Comm::of(0, 1, [&asked](const void *mine, void *all, std::uint64_t bytes,
                                                std::chrono::milliseconds) {
        std::memcpy(all, mine, bytes);
        asked++;
        return PANTA_OK;
    });
    panta::Writer::open(url, alone).close();
    THAT(asked > 0);
    auto broken = panta::Comm::of(0, 2, [](const void *, void *, std::uint64_t,
                                           std::chrono::milliseconds) -> panta_status {
        throw std::runtime_error("out of order today");
    });
    refused(PANTA_ERROR_COMMUNICATOR, "out of order today", [&] { panta::Writer::open(url, broken); });
}

// An array of any strides as an mdspan of any library.
static void spans()
{
    double data[24] = {};
    Made made = panta::View<double>(data, {4, 6}).part({1, 2}, {2, 3}).as<Made>();
    THAT(made.data == data + 8 && made.mapping.extents[1] == 3 && made.mapping.strides[0] == 6);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    write(argv[1]);
    read(argv[1]);
    runs(argv[1]);
    misuse(argv[1]);
    groups(argv[1]);
    spans();
    THAT(std::string(panta::version()) == panta_version());
    return 0;
}
