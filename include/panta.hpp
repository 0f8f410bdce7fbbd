// panta.hpp: Panta for C++17, on top of panta.h, whose page of prose holds here.
//
//     panta::Writer out = panta::Writer::open("run42", comm);
//     auto u = out.define<double>("u", panta::Shape::global({nz, ny, nx}).unit("K"));
//     while (running) {
//         panta::WriterStep step = out.begin_step(time);
//         step.put(u, {z0, 0, 0}, panta::View(data, {mz, ny, nx}));
//         step.end();
//     }
//     out.close();
//
//     panta::Reader in = panta::Reader::open("run42");
//     while (auto step = in.next_step())
//         std::vector<double> plane = step->get<double>("u", panta::box({0, 0, 0}, {1, ny, nx}));
//
// Handles close themselves; `close()` in addition tells whether that went well.
// A WriterStep that is dropped before `end()` is given up on every rank.
//
// Errors.  By default functions throw panta::Error. With PANTA_NO_EXCEPTIONS
// defined before this header (implied by -fno-exceptions) they return
// panta::Result<T> instead: true or false, then value() or error(). The two
// forms live in different inline namespaces, so that they can be linked together.
//
// Arrays.  panta::View<T> is an array in memory: pointer, extents, strides in
// elements. It is made of a pointer and extents, of a std::vector, or of any
// mdspan (std's, Kokkos'), of which it needs the members only.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PANTA_HPP
#define PANTA_HPP

#include <panta.h>

#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if !defined(PANTA_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define PANTA_NO_EXCEPTIONS
#endif
#ifndef PANTA_NO_EXCEPTIONS
#include <stdexcept>
#endif

namespace panta {

#ifdef PANTA_NO_EXCEPTIONS
inline namespace results {
#else
inline namespace throwing {
#endif

// What went wrong: the status, the library's words, and where.
struct Fault {
    panta_status status = PANTA_OK;
    std::string message, stream;
    std::optional<std::string> variable;
    std::int64_t step = -1;
    int rank = -1;

    // The last error of this thread.
    static Fault last(panta_status status)
    {
        Fault fault;
        fault.status = status;
        fault.message = panta_error_message();
        fault.stream = panta_error_stream();
        if (panta_error_variable())
            fault.variable = panta_error_variable();
        fault.step = panta_error_step();
        fault.rank = panta_error_rank();
        return fault;
    }
};

// Nothing, as the value of a call that gives nothing.
struct Done {};

#ifdef PANTA_NO_EXCEPTIONS

// A value, or why there is none.
template <typename T> class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Fault fault) : fault_(std::move(fault)) {}
    explicit operator bool() const { return value_.has_value(); }
    const Fault &error() const { return fault_; }
    // The value; without one the program ends.
    T &value() &
    {
        if (!value_)
            std::abort();
        return *value_;
    }
    T value() &&
    {
        if (!value_)
            std::abort();
        return std::move(*value_);
    }

private:
    std::optional<T> value_;
    Fault fault_;
};

template <typename T> using Returned = Result<T>;
using Nothing = Result<Done>;

#else

// What is thrown.
class Error : public std::runtime_error {
public:
    explicit Error(Fault fault)
        : std::runtime_error(fault.message), fault_(std::move(fault))
    {
    }
    const Fault &fault() const noexcept { return fault_; }
    panta_status status() const noexcept { return fault_.status; }

private:
    Fault fault_;
};

template <typename T> using Returned = T;
using Nothing = void;

#endif

namespace detail {

#ifdef PANTA_NO_EXCEPTIONS
template <typename T> Result<T> give(panta_status status, T value)
{
    if (status != PANTA_OK)
        return Fault::last(status);
    return Result<T>(std::move(value));
}
inline Nothing done(panta_status status) { return give(status, Done{}); }
#else
template <typename T> T give(panta_status status, T value)
{
    if (status != PANTA_OK)
        throw Error(Fault::last(status));
    return value;
}
inline void done(panta_status status) { give(status, Done{}); }
#endif

template <typename T> struct dtype_of {
    static_assert(!sizeof(T *), "not a type that a variable can hold");
};
template <panta_dtype code> struct dtype {
    static constexpr panta_dtype value = code;
};
template <typename T>
inline constexpr panta_dtype integer_dtype =
    std::is_signed_v<T>
        ? (sizeof(T) == 1 ? PANTA_I8 : sizeof(T) == 2 ? PANTA_I16 : sizeof(T) == 4 ? PANTA_I32 : PANTA_I64)
        : (sizeof(T) == 1 ? PANTA_U8 : sizeof(T) == 2 ? PANTA_U16 : sizeof(T) == 4 ? PANTA_U32 : PANTA_U64);
template <> struct dtype_of<signed char> : dtype<PANTA_I8> {};
template <> struct dtype_of<unsigned char> : dtype<PANTA_U8> {};
template <> struct dtype_of<short> : dtype<integer_dtype<short>> {};
template <> struct dtype_of<unsigned short> : dtype<integer_dtype<unsigned short>> {};
template <> struct dtype_of<int> : dtype<integer_dtype<int>> {};
template <> struct dtype_of<unsigned> : dtype<integer_dtype<unsigned>> {};
template <> struct dtype_of<long> : dtype<integer_dtype<long>> {};
template <> struct dtype_of<unsigned long> : dtype<integer_dtype<unsigned long>> {};
template <> struct dtype_of<long long> : dtype<integer_dtype<long long>> {};
template <> struct dtype_of<unsigned long long> : dtype<integer_dtype<unsigned long long>> {};
template <> struct dtype_of<float> : dtype<PANTA_F32> {};
template <> struct dtype_of<double> : dtype<PANTA_F64> {};
template <> struct dtype_of<std::complex<float>> : dtype<PANTA_COMPLEX64> {};
template <> struct dtype_of<std::complex<double>> : dtype<PANTA_COMPLEX128> {};
template <> struct dtype_of<bool> : dtype<PANTA_BOOL> {};
template <> struct dtype_of<std::string> : dtype<PANTA_TEXT> {};
static_assert(sizeof(bool) == 1, "a bool is stored as one byte");

// Owns a handle and closes it.
template <typename H, panta_status (*close)(H *)> class Owned {
public:
    Owned() = default;
    explicit Owned(H *handle) : handle_(handle) {}
    Owned(Owned &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owned &operator=(Owned &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Owned() { shut(); }
    H *get() const { return handle_; }
    H *release() { return std::exchange(handle_, nullptr); }
    panta_status shut()
    {
        H *handle = std::exchange(handle_, nullptr);
        return handle ? close(handle) : PANTA_OK;
    }

private:
    H *handle_ = nullptr;
};

// Whether something looks like an mdspan.
template <typename M, typename = void> struct is_mdspan : std::false_type {};
template <typename M>
struct is_mdspan<M, std::void_t<typename M::element_type,
                                decltype(std::declval<const M &>().data_handle()),
                                decltype(std::declval<const M &>().extent(0)),
                                decltype(std::declval<const M &>().stride(0)),
                                decltype(M::rank())>> : std::true_type {};

} // namespace detail

// The dtype of a C++ type.
template <typename T>
inline constexpr panta_dtype dtype_of = detail::dtype_of<std::remove_cv_t<T>>::value;

// Cells per dimension, or a position, slowest first.
using Extents = std::vector<std::int64_t>;

// An array in memory, not owned: the last dimension is fastest unless strides
// (in elements) say otherwise.
template <typename T> class View {
public:
    View(T *data, Extents extents) : data_(data), extents_(std::move(extents)), strides_(extents_.size())
    {
        std::int64_t stride = 1;
        for (std::size_t i = extents_.size(); i-- > 0; stride *= extents_[i])
            strides_[i] = stride;
    }
    View(T *data, Extents extents, Extents strides)
        : data_(data), extents_(std::move(extents)), strides_(std::move(strides))
    {
    }
    template <typename U, typename = std::enable_if_t<std::is_same_v<T, const U>>>
    View(const View<U> &other) : View(other.data(), other.extents(), other.strides())
    {
    }
    template <typename U, typename = std::enable_if_t<std::is_same_v<std::remove_const_t<T>, U>>>
    View(std::vector<U> &vector) : View(vector.data(), {static_cast<std::int64_t>(vector.size())})
    {
    }
    template <typename U, typename = std::enable_if_t<std::is_same_v<T, const U>>>
    View(const std::vector<U> &vector) : View(vector.data(), {static_cast<std::int64_t>(vector.size())})
    {
    }
    template <typename M, typename = std::enable_if_t<detail::is_mdspan<M>::value>, typename = void>
    View(const M &span) : data_(span.data_handle()), extents_(M::rank()), strides_(M::rank())
    {
        for (std::size_t i = 0; i < M::rank(); i++) {
            extents_[i] = static_cast<std::int64_t>(span.extent(i));
            strides_[i] = static_cast<std::int64_t>(span.stride(i));
        }
    }

    T *data() const { return data_; }
    std::size_t rank() const { return extents_.size(); }
    std::int64_t extent(std::size_t dimension) const { return extents_[dimension]; }
    std::int64_t stride(std::size_t dimension) const { return strides_[dimension]; }
    const Extents &extents() const { return extents_; }
    const Extents &strides() const { return strides_; }

    // The element at a position, unchecked.
    template <typename... I> T &operator()(I... index) const
    {
        std::int64_t offset = 0;
        std::size_t dimension = 0;
        ((offset += static_cast<std::int64_t>(index) * strides_[dimension++]), ...);
        return data_[offset];
    }

    // The box of `extents` cells from `first`: a field without its ghost cells.
    View part(const Extents &first, Extents extents) const
    {
        T *data = data_;
        for (std::size_t i = 0; i < first.size() && i < strides_.size(); i++)
            data += first[i] * strides_[i];
        return View(data, std::move(extents), strides_);
    }

    panta_buffer buffer() const
    {
        using Element = std::remove_const_t<T>;
        panta_buffer buffer = PANTA_SIZED(panta_buffer);
        buffer.data = const_cast<Element *>(data_);
        buffer.dtype = dtype_of<T>;
        buffer.dimensions = static_cast<std::int32_t>(extents_.size());
        for (std::size_t i = 0; i < extents_.size() && i < PANTA_MAX_DIMS; i++) {
            buffer.count[i] = extents_[i];
            buffer.strides_bytes[i] = strides_[i] * static_cast<std::int64_t>(sizeof(T));
        }
        return buffer;
    }

private:
    T *data_;
    Extents extents_, strides_;
};

template <typename T> View(T *, Extents) -> View<T>;
template <typename T> View(T *, std::initializer_list<std::int64_t>) -> View<T>;
template <typename T> View(std::vector<T> &) -> View<T>;
template <typename T> View(const std::vector<T> &) -> View<const T>;
template <typename M, typename = std::enable_if_t<detail::is_mdspan<M>::value>>
View(const M &) -> View<typename M::element_type>;

// Which part of a variable is wanted.
inline panta_selection everything() { return panta_all(); }
inline panta_selection block(std::int64_t number) { return panta_block(number); }
inline panta_selection strided(const Extents &start, const Extents &count, const Extents &stride)
{
    return panta_strided(static_cast<std::int32_t>(start.size()), start.data(),
                         count.empty() ? nullptr : count.data(),
                         stride.empty() ? nullptr : stride.data());
}
inline panta_selection box(const Extents &start, const Extents &count)
{
    return strided(start, count, {});
}

// What a variable is when it is defined.
class Shape {
public:
    static Shape global(Extents shape) { return Shape(PANTA_GLOBAL_ARRAY, std::move(shape)); }
    static Shape local(int dimensions)
    {
        return Shape(PANTA_LOCAL_ARRAY, Extents(static_cast<std::size_t>(dimensions)));
    }
    static Shape joined(int dimension, Extents shape)
    {
        Shape joined(PANTA_JOINED_ARRAY, std::move(shape));
        joined.joined_ = dimension;
        return joined;
    }
    static Shape global_value() { return Shape(PANTA_GLOBAL_VALUE, {}); }
    static Shape local_value() { return Shape(PANTA_LOCAL_VALUE, {}); }

    Shape &&dims(std::vector<std::string> names) &&
    {
        dims_ = std::move(names);
        return std::move(*this);
    }
    Shape &&unit(std::string unit) &&
    {
        unit_ = std::move(unit);
        return std::move(*this);
    }
    Shape &&coordinates(std::vector<std::string> names) &&
    {
        coordinates_ = std::move(names);
        return std::move(*this);
    }
    template <typename T> Shape &&fill(T value) &&
    {
        const char *bytes = reinterpret_cast<const char *>(&value);
        fill_.assign(bytes, sizeof value);
        fill_dtype_ = dtype_of<T>;
        return std::move(*this);
    }
    Shape &&chunk(Extents chunk) &&
    {
        chunk_ = std::move(chunk);
        return std::move(*this);
    }
    // How far numbers may be rounded, so that `compress` gains more: by so much in the unit
    // of the elements, or by this part of each; one of the two.
    Shape &&absolute_accuracy(double bound) &&
    {
        absolute_accuracy_ = bound;
        return std::move(*this);
    }
    Shape &&relative_accuracy(double bound) &&
    {
        relative_accuracy_ = bound;
        return std::move(*this);
    }

private:
    friend class Writer;
    Shape(panta_kind kind, Extents shape) : kind_(kind), shape_(std::move(shape)) {}

    panta_status define(panta_writer *writer, const std::string &name, panta_dtype dtype,
                        panta_variable *variable) const
    {
        panta_definition definition = panta_definition_of(
            name.c_str(), dtype, kind_, static_cast<std::int32_t>(shape_.size()), shape_.data());
        std::vector<const char *> dims, coordinates;
        for (const std::string &dim : dims_)
            dims.push_back(dim.c_str());
        for (const std::string &coordinate : coordinates_)
            coordinates.push_back(coordinate.c_str());
        if (!dims.empty() && dims.size() != shape_.size())
            return panta_fail(PANTA_ERROR_DEFINITION, "dimension names: there is not one for each");
        if (!chunk_.empty() && chunk_.size() != shape_.size())
            return panta_fail(PANTA_ERROR_DEFINITION, "chunk: there is not one side for each dimension");
        if (!fill_.empty() && fill_dtype_ != dtype)
            return panta_fail(PANTA_ERROR_DEFINITION, "the fill value is of another type than the elements");
        definition.joined_dimension = joined_;
        definition.dimension_names = dims.empty() ? nullptr : dims.data();
        definition.unit = unit_.c_str();
        definition.coordinates = coordinates.data();
        definition.coordinates_count = coordinates.size();
        definition.fill = fill_.empty() ? nullptr : fill_.data();
        definition.chunk = chunk_.empty() ? nullptr : chunk_.data();
        definition.absolute_accuracy = absolute_accuracy_;
        definition.relative_accuracy = relative_accuracy_;
        return panta_define(writer, &definition, variable);
    }

    panta_kind kind_;
    Extents shape_, chunk_;
    std::vector<std::string> dims_, coordinates_;
    std::string unit_, fill_;
    double absolute_accuracy_ = 0, relative_accuracy_ = 0;
    panta_dtype fill_dtype_ = 0;
    int joined_ = 0;
};

// A variable of one writer.
template <typename T> class Variable {
public:
    panta_variable number() const { return number_; }

private:
    friend class Writer;
    explicit Variable(panta_variable number) : number_(number) {}
    panta_variable number_;
};

// The ranks that open a stream together; one rank alone by default.
class Comm {
public:
    Comm() = default;
    explicit Comm(panta_comm *comm) : handle_(comm) {}
    static Returned<Comm> procs()
    {
        panta_comm *comm = nullptr;
        panta_status status = panta_comm_procs(&comm);
        return detail::give(status, Comm(comm));
    }
#ifdef PANTA_MPI_H
    static Returned<Comm> mpi(MPI_Comm group)
    {
        panta_comm *comm = nullptr;
        panta_status status = panta_comm_mpi(group, &comm);
        return detail::give(status, Comm(comm));
    }
#endif
    panta_comm *get() const { return handle_.get(); }

private:
    detail::Owned<panta_comm, panta_comm_close> handle_;
};

// Ends the waits of what was opened with it: `options.interrupter = interrupter.get()`.
class Interrupter {
public:
    static Returned<Interrupter> make()
    {
        panta_interrupter *interrupter = nullptr;
        panta_status status = panta_interrupter_open(&interrupter);
        return detail::give(status, Interrupter(interrupter));
    }
    // Also from a signal handler, and on any thread.
    void interrupt() const { panta_interrupt(get()); }
    void clear() const { panta_clear_interrupt(get()); }
    panta_interrupter *get() const { return handle_.get(); }

private:
    explicit Interrupter(panta_interrupter *interrupter) : handle_(interrupter) {}
    detail::Owned<panta_interrupter, panta_interrupter_close> handle_;
};

struct Engine {
    std::string engine, transport, why;
};

// The step that is written. Dropping it before end() gives it up on every rank.
class WriterStep {
public:
    WriterStep(WriterStep &&other) noexcept
        : writer_(std::exchange(other.writer_, nullptr)), number_(other.number_)
    {
    }
    WriterStep &operator=(WriterStep &&) = delete;
    ~WriterStep()
    {
        if (writer_)
            panta_abort_step(writer_);
    }
    std::int64_t number() const { return number_; }

    bool is_discarded() const
    {
        std::int32_t discarded = 0;
        return panta_is_discarded(writer_, &discarded) == PANTA_OK && discarded;
    }

    // Puts one block; its memory is left in place and unchanged until end() returns.
    // `start` is empty for local arrays.
    template <typename T>
    Nothing put(Variable<T> variable, const Extents &start, const std::common_type_t<View<const T>> &array)
    {
        panta_buffer buffer = array.buffer();
        return detail::done(panta_put(writer_, variable.number(), first(start), &buffer));
    }

    // Puts one block, copied during the call: its memory is free again at once.
    template <typename T>
    Nothing put_copied(Variable<T> variable, const Extents &start,
                       const std::common_type_t<View<const T>> &array)
    {
        panta_buffer buffer = array.buffer();
        return detail::done(panta_put_copied(writer_, variable.number(), first(start), &buffer));
    }

    // Puts one block by giving its vector away: no copy where the transport can.
    template <typename T>
    Nothing put_owned(Variable<T> variable, const Extents &start, std::vector<T> data, Extents count)
    {
        static_assert(!std::is_same_v<T, bool>, "a std::vector<bool> holds no bools");
        auto kept = std::make_unique<std::vector<T>>(std::move(data));
        std::int64_t cells = 1;
        for (std::int64_t side : count)
            cells *= side;
        if (cells != static_cast<std::int64_t>(kept->size()))
            return detail::done(panta_fail(PANTA_ERROR_SHAPE, "the vector has another size than its counts"));
        panta_buffer buffer = View<T>(kept->data(), std::move(count)).buffer();
        panta_status status = panta_put_owned(writer_, variable.number(), first(start), &buffer,
                                              &WriterStep::release<T>, kept.get());
        if (status == PANTA_OK)
            kept.release();
        return detail::done(status);
    }

    // Puts one block by lending its memory until `release()` is called, at the step's end
    // at the earliest, on the thread that ends the step or closes the writer. What it
    // throws goes no further: nobody is there to take it.
    template <typename T, typename Release>
    Nothing put_lent(Variable<T> variable, const Extents &start,
                     const std::common_type_t<View<const T>> &array, Release release)
    {
        auto kept = std::make_unique<Release>(std::move(release));
        panta_buffer buffer = array.buffer();
        panta_status status = panta_put_owned(writer_, variable.number(), first(start), &buffer,
                                              &WriterStep::call<Release>, kept.get());
        if (status == PANTA_OK)
            kept.release();
        return detail::done(status);
    }

    // Memory of the transport to compute a block into, until end() is called.
    // Write every element: it holds zeros, or the values of an earlier step.
    template <typename T> Returned<View<T>> span(Variable<T> variable, const Extents &start, Extents count)
    {
        void *memory = nullptr;
        panta_status status =
            panta_span(writer_, variable.number(), dtype_of<T>, first(start), count.data(), &memory);
        return detail::give(status, View<T>(static_cast<T *>(memory), std::move(count)));
    }

    // Puts a value, taken at once.
    template <typename T> Nothing put_value(Variable<T> variable, const T &value)
    {
        if constexpr (std::is_same_v<T, std::string>)
            return detail::done(panta_put_text(writer_, variable.number(), value.c_str()));
        else
            return detail::done(panta_put_value(writer_, variable.number(), dtype_of<T>, &value));
    }

    // Ends the step; collective. True: sealed; false: discarded by the stream's policy.
    Returned<bool> end()
    {
        panta_sealed sealed = PANTA_SIZED(panta_sealed);
        panta_status status = panta_end_step(std::exchange(writer_, nullptr), &sealed);
        return detail::give(status, !sealed.discarded);
    }

    void abort() { panta_abort_step(std::exchange(writer_, nullptr)); }

private:
    friend class Writer;
    WriterStep(panta_writer *writer, std::int64_t number) : writer_(writer), number_(number) {}

    static const std::int64_t *first(const Extents &start) { return start.empty() ? nullptr : start.data(); }

    template <typename T> static void release(void *context, void *)
    {
        delete static_cast<std::vector<T> *>(context);
    }

    template <typename Release> static void call(void *context, void *) noexcept
    {
        std::unique_ptr<Release> release(static_cast<Release *>(context));
#ifdef PANTA_NO_EXCEPTIONS
        (*release)();
#else
        try {
            (*release)();
        } catch (...) {
        }
#endif
    }

    panta_writer *writer_;
    std::int64_t number_;
};

// One rank's end of a stream that is written.
class Writer {
public:
    static Returned<Writer> open(const std::string &name, const Comm &comm = Comm(),
                                 const panta_writer_options &options = panta_default_writer_options())
    {
        panta_writer *writer = nullptr;
        panta_status status = panta_check_version();
        if (status == PANTA_OK)
            status = panta_writer_open(name.c_str(), comm.get(), &options, &writer);
        return detail::give(status, Writer(writer));
    }

    template <typename T> Returned<Variable<T>> define(const std::string &name, const Shape &shape)
    {
        panta_variable variable = 0;
        panta_status status = shape.define(get(), name, dtype_of<T>, &variable);
        return detail::give(status, Variable<T>(variable));
    }

    template <typename T> Nothing set_shape(Variable<T> variable, const Extents &shape)
    {
        return detail::done(panta_set_shape(get(), variable.number(), shape.data()));
    }

    // Promises that what is defined stays as it is; then redefining is an error.
    Nothing freeze_definitions() { return detail::done(panta_freeze_definitions(get())); }

    // Sets an attribute of the stream: a number, a text, or a vector of either.
    template <typename A> Nothing set_attribute(const std::string &name, const A &value)
    {
        return set(PANTA_STREAM, name.c_str(), value);
    }

    // The same of a variable.
    template <typename T, typename A>
    Nothing set_attribute(Variable<T> variable, const std::string &name, const A &value)
    {
        return set(variable.number(), name.c_str(), value);
    }

    // Begins a step; collective.
    Returned<WriterStep> begin_step(double time = PANTA_NO_TIME, std::uint64_t bytes = 0)
    {
        std::int64_t number = -1;
        panta_status status = panta_begin_step_of(get(), time, bytes, &number);
        return detail::give(status, WriterStep(status == PANTA_OK ? get() : nullptr, number));
    }

    Returned<Engine> engine() const
    {
        panta_engine_info info = PANTA_SIZED(panta_engine_info);
        panta_status status = panta_writer_engine(get(), &info);
        return detail::give(status, status == PANTA_OK ? Engine{info.engine, info.transport, info.why} : Engine{});
    }

    Nothing set_deadline(std::chrono::milliseconds deadline)
    {
        return detail::done(panta_writer_set_deadline(get(), deadline.count()));
    }

    // Does what is there to do, where `options.silence_ms` was given; see panta_progress.
    Nothing progress() const { return detail::done(panta_progress(get())); }

    // A descriptor that is readable when progress() has something to do.
    Returned<int> wait_fd() const
    {
        std::int32_t descriptor = -1;
        panta_status status = panta_writer_wait_fd(get(), &descriptor);
        return detail::give(status, static_cast<int>(descriptor));
    }

    void interrupt() const { panta_interrupt(get()); }
    Nothing close() { return detail::done(handle_.shut()); }
    panta_writer *get() const { return handle_.get(); }

private:
    explicit Writer(panta_writer *writer) : handle_(writer) {}

    template <typename A> Nothing set(panta_variable variable, const char *name, const A &value)
    {
        if constexpr (std::is_convertible_v<const A &, std::string_view>)
            return detail::done(panta_set_attribute_text(get(), variable, name,
                                                         std::string(std::string_view(value)).c_str()));
        else if constexpr (std::is_floating_point_v<A>)
            return detail::done(panta_set_attribute_f64(get(), variable, name, value));
        else if constexpr (std::is_signed_v<A>)
            return detail::done(panta_set_attribute_i64(get(), variable, name, value));
        else
            return detail::done(panta_set_attribute_u64(get(), variable, name, value));
    }
    template <typename A> Nothing set(panta_variable variable, const char *name, const std::vector<A> &values)
    {
        if constexpr (std::is_convertible_v<const A &, std::string_view>) {
            std::vector<std::string> texts(values.begin(), values.end());
            std::vector<const char *> pointers;
            for (const std::string &text : texts)
                pointers.push_back(text.c_str());
            return detail::done(
                panta_set_attribute_texts(get(), variable, name, pointers.data(), pointers.size()));
        } else if constexpr (std::is_floating_point_v<A>) {
            std::vector<double> wide(values.begin(), values.end());
            return detail::done(panta_set_attribute_f64s(get(), variable, name, wide.data(), wide.size()));
        } else if constexpr (std::is_signed_v<A>) {
            std::vector<std::int64_t> wide(values.begin(), values.end());
            return detail::done(panta_set_attribute_i64s(get(), variable, name, wide.data(), wide.size()));
        } else {
            std::vector<std::uint64_t> wide(values.begin(), values.end());
            return detail::done(panta_set_attribute_u64s(get(), variable, name, wide.data(), wide.size()));
        }
    }

    detail::Owned<panta_writer, panta_writer_close> handle_;
};

// A block in the transport's memory, kept in place as long as this lives.
template <typename T> class PinnedView {
public:
    const View<const T> &array() const { return array_; }

private:
    friend class Step;
    PinnedView(panta_view *view, View<const T> array) : handle_(view), array_(std::move(array)) {}
    detail::Owned<panta_view, panta_view_close> handle_;
    View<const T> array_;
};

// Several reads that are done together, by finish(); their memory is left in place
// until then.
class Batch {
public:
    template <typename T> Nothing get_into(const std::string &variable, const panta_selection &selection,
                                           const View<T> &into)
    {
        panta_buffer buffer = into.buffer();
        return detail::done(panta_batch_get(handle_.get(), variable.c_str(), &selection, &buffer));
    }
    Nothing finish() { return detail::done(panta_batch_finish(handle_.release())); }

private:
    friend class Step;
    explicit Batch(panta_batch *batch) : handle_(batch) {}
    detail::Owned<panta_batch, panta_batch_close> handle_;
};

// A sealed step: the reader's until its next one, or kept with detach().
class Step {
public:
    Step(Step &&other) noexcept
        : step_(std::exchange(other.step_, nullptr))
    {
    }
    Step &operator=(Step &&other) noexcept
    {
        std::swap(step_, other.step_);
        return *this;
    }
    ~Step()
    {
        if (step_)
            panta_step_close(step_);
    }

    // Keeps the step beyond the reader's next one, and beyond the reader.
    Nothing detach() { return detail::done(panta_step_detach(step_)); }

    Returned<panta_step_info> info() const
    {
        panta_step_info info = PANTA_SIZED(panta_step_info);
        panta_status status = panta_step_describe(step_, &info);
        return detail::give(status, info);
    }

    // The pointers in it live as long as the step.
    Returned<panta_variable_info> variable(const std::string &name) const
    {
        panta_variable_info info = PANTA_SIZED(panta_variable_info);
        panta_status status = panta_find_variable(step_, name.c_str(), &info);
        return detail::give(status, info);
    }
    Returned<panta_variable_info> variable(std::uint64_t index) const
    {
        panta_variable_info info = PANTA_SIZED(panta_variable_info);
        panta_status status = panta_variable_at(step_, index, &info);
        return detail::give(status, info);
    }
    Returned<panta_block_info> block(const std::string &variable, std::int64_t number) const
    {
        panta_block_info info = PANTA_SIZED(panta_block_info);
        panta_status status = panta_block_at(step_, variable.c_str(), number, &info);
        return detail::give(status, info);
    }
    // An attribute of the stream; its pointers live as long as the step.
    Returned<panta_attribute> attribute(const std::string &name) const
    {
        panta_attribute attribute = PANTA_SIZED(panta_attribute);
        panta_status status = panta_find_attribute(step_, nullptr, name.c_str(), &attribute);
        return detail::give(status, attribute);
    }
    Returned<panta_attribute> attribute(const std::string &variable, const std::string &name) const
    {
        panta_attribute attribute = PANTA_SIZED(panta_attribute);
        panta_status status = panta_find_attribute(step_, variable.c_str(), name.c_str(), &attribute);
        return detail::give(status, attribute);
    }

    // The extents of what a selection gives.
    Returned<Extents> selected(const std::string &variable,
                               const panta_selection &selection = everything()) const
    {
        std::int64_t count[PANTA_MAX_DIMS] = {};
        std::int32_t dimensions = 0;
        panta_status status = panta_selected(step_, variable.c_str(), &selection, &dimensions, count);
        return detail::give(status, Extents(count, count + dimensions));
    }

    // Reads a selection into a new vector, the last dimension fastest.
    template <typename T>
    Returned<std::vector<T>> get(const std::string &variable,
                                 const panta_selection &selection = everything()) const
    {
        static_assert(!std::is_same_v<T, bool>, "a std::vector<bool> holds no bools; use get_into");
        std::int64_t count[PANTA_MAX_DIMS] = {};
        std::int32_t dimensions = 0;
        std::vector<T> data;
        panta_status status = panta_selected(step_, variable.c_str(), &selection, &dimensions, count);
        if (status == PANTA_OK) {
            std::size_t cells = 1;
            for (std::int32_t i = 0; i < dimensions; i++)
                cells *= static_cast<std::size_t>(count[i]);
            data.resize(cells);
            panta_buffer buffer = View<T>(data.data(), Extents(count, count + dimensions)).buffer();
            status = panta_get(step_, variable.c_str(), &selection, &buffer);
        }
        return detail::give(status, std::move(data));
    }

    // Reads a selection into memory that is there, of any strides.
    template <typename T>
    Nothing get_into(const std::string &variable, const panta_selection &selection, const View<T> &into) const
    {
        static_assert(!std::is_const_v<T>, "memory to get into is written to");
        panta_buffer buffer = into.buffer();
        return detail::done(panta_get(step_, variable.c_str(), &selection, &buffer));
    }

    // One value: of a global value, or the only element of anything.
    template <typename T> Returned<T> get_value(const std::string &variable) const
    {
        if constexpr (std::is_same_v<T, std::string>) {
            const char *text = nullptr;
            std::size_t length = 0;
            panta_status status = panta_get_text(step_, variable.c_str(), 0, &text, &length);
            return detail::give(status, status == PANTA_OK ? std::string(text, length) : std::string());
        } else {
            T value = T();
            panta_status status = panta_get_value(step_, variable.c_str(), dtype_of<T>, &value);
            return detail::give(status, value);
        }
    }

    // The texts of a variable, one for each put of a local value.
    Returned<std::vector<std::string>> get_texts(const std::string &variable) const
    {
        std::vector<std::string> texts;
        panta_variable_info info = PANTA_SIZED(panta_variable_info);
        panta_status status = panta_find_variable(step_, variable.c_str(), &info);
        for (std::uint64_t i = 0; status == PANTA_OK && i < info.blocks; i++) {
            const char *text = nullptr;
            std::size_t length = 0;
            status = panta_get_text(step_, variable.c_str(), static_cast<std::int64_t>(i), &text, &length);
            if (status == PANTA_OK)
                texts.emplace_back(text, length);
        }
        return detail::give(status, std::move(texts));
    }

    // A block in place, where the engine can.
    template <typename T> Returned<PinnedView<T>> view(const std::string &variable, std::int64_t number) const
    {
        panta_buffer buffer = PANTA_SIZED(panta_buffer);
        panta_view *view = nullptr;
        panta_status status = panta_view_open(step_, variable.c_str(), dtype_of<T>, number, &buffer, &view);
        return detail::give(status, PinnedView<T>(view, View<const T>(static_cast<const T *>(buffer.data),
                                                                      Extents(buffer.count,
                                                                              buffer.count + buffer.dimensions))));
    }

    Returned<Batch> batch() const
    {
        panta_batch *batch = nullptr;
        panta_status status = panta_batch_open(step_, &batch);
        return detail::give(status, Batch(batch));
    }

    panta_step *get() const { return step_; }

private:
    friend class Reader;
    explicit Step(panta_step *step) : step_(step) {}
    panta_step *step_;
};

// One rank's end of a stream that is read.
class Reader {
public:
    static Returned<Reader> open(const std::string &name, const Comm &comm = Comm(),
                                 const panta_reader_options &options = panta_default_reader_options())
    {
        panta_reader *reader = nullptr;
        panta_status status = panta_check_version();
        if (status == PANTA_OK)
            status = panta_reader_open(name.c_str(), comm.get(), &options, &reader);
        return detail::give(status, Reader(reader));
    }

    // The next step; nothing once the writer has closed and every step was seen, which
    // also is_at_end() tells, or where none came within the time given.
    Returned<std::optional<Step>> next_step(std::optional<std::chrono::milliseconds> at_most = std::nullopt)
    {
        panta_step *step = nullptr;
        panta_status status =
            panta_next_step(get(), at_most ? at_most->count() : PANTA_CONFIGURED, &step);
        std::optional<Step> found;
        if (status == PANTA_OK)
            found = Step(step);
        at_end_ = status == PANTA_END_OF_STREAM;
        if (at_end_ || (status == PANTA_NOT_READY && at_most))
            status = PANTA_OK;
        return detail::give(status, std::move(found));
    }

    bool is_at_end() const { return at_end_; }

    // A descriptor that is readable when next_step() should be called, on rank 0; see
    // panta_wait_fd.
    Returned<int> wait_fd() const
    {
        std::int32_t descriptor = -1;
        panta_status status = panta_wait_fd(get(), &descriptor);
        return detail::give(status, static_cast<int>(descriptor));
    }

    // Does what is there to do, where `options.silence_ms` was given; see panta_progress.
    Nothing progress() const { return detail::done(panta_progress(get())); }

    // Remembers under `cursor` that the group is done with everything up to `step`.
    Nothing commit(const Step &step, const std::string &cursor)
    {
        return detail::done(panta_commit(get(), step.get(), cursor.c_str()));
    }

    Returned<Engine> engine() const
    {
        panta_engine_info info = PANTA_SIZED(panta_engine_info);
        panta_status status = panta_reader_engine(get(), &info);
        return detail::give(status, status == PANTA_OK ? Engine{info.engine, info.transport, info.why} : Engine{});
    }

    void interrupt() const { panta_interrupt(get()); }
    Nothing close() { return detail::done(handle_.shut()); }
    panta_reader *get() const { return handle_.get(); }

private:
    explicit Reader(panta_reader *reader) : handle_(reader) {}
    detail::Owned<panta_reader, panta_reader_close> handle_;
    bool at_end_ = false;
};

} // inline namespace

} // namespace panta

#endif // PANTA_HPP
