// Defining variables and putting steps.
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PANTA_WRITER_HPP
#define PANTA_WRITER_HPP

#include "comm.hpp"
#include "view.hpp"

#include <string_view>

namespace panta {
inline namespace PANTA_ERRORS_ {

// What a variable is when it is defined.
class Shape {
public:
    static Shape global(Extents shape) { return Shape(PANTA_GLOBAL_ARRAY, std::move(shape)); }
    static Shape local(int dimensions)
    {
        Shape local(PANTA_LOCAL_ARRAY, Extents(static_cast<std::size_t>(dimensions > 0 ? dimensions : 0)));
        local.dimensions_ = dimensions;
        return local;
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
    Shape(panta_kind kind, Extents shape)
        : kind_(kind), dimensions_(static_cast<std::int32_t>(shape.size())), shape_(std::move(shape))
    {
    }

    panta_status define(panta_writer *writer, const std::string &name, panta_dtype dtype,
                        panta_variable *variable) const
    {
        if (detail::is_cut(name) || detail::is_cut(unit_))
            return detail::refuse_cut(detail::is_cut(name) ? "the name" : "the unit");
        panta_definition definition = panta_definition_of(
            name.c_str(), dtype, kind_, dimensions_, shape_.empty() ? nullptr : shape_.data());
        std::vector<const char *> dims, coordinates;
        for (const std::string &dim : dims_) {
            if (detail::is_cut(dim))
                return detail::refuse_cut("the name of a dimension");
            dims.push_back(dim.c_str());
        }
        for (const std::string &coordinate : coordinates_) {
            if (detail::is_cut(coordinate))
                return detail::refuse_cut("the name of a coordinate");
            coordinates.push_back(coordinate.c_str());
        }
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
    std::int32_t dimensions_;
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
    std::size_t rank() const { return rank_; }

private:
    friend class Writer;
    Variable(panta_variable number, std::size_t rank) : number_(number), rank_(rank) {}
    panta_variable number_;
    std::size_t rank_;
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

    // Identity and times of this step.
    Returned<panta_step_info> info() const
    {
        panta_step_info info = PANTA_SIZED(panta_step_info);
        panta_status status = open();
        if (status == PANTA_OK)
            status = panta_describe_open_step(writer_, &info);
        return detail::give(status, info);
    }

    bool is_discarded() const
    {
        std::int32_t discarded = 0;
        return writer_ && panta_is_discarded(writer_, &discarded) == PANTA_OK && discarded;
    }

    // Puts one block; its memory is left in place and unchanged until end() returns.
    // `start` is empty for local arrays.
    template <typename T>
    Nothing put(Variable<T> variable, const Extents &start, const std::common_type_t<View<const T>> &array)
    {
        return detail::done(with(variable, start, array, [&](const panta_buffer &buffer) {
            return panta_put(writer_, variable.number(), first(start), &buffer);
        }));
    }

    // A vector that is gone before the step ends cannot be left in place: put_copied it, or put_owned.
    template <typename T> Nothing put(Variable<T>, const Extents &, const std::vector<T> &&) = delete;

    // Puts one block, copied during the call: its memory is free again at once.
    template <typename T>
    Nothing put_copied(Variable<T> variable, const Extents &start,
                       const std::common_type_t<View<const T>> &array)
    {
        return detail::done(with(variable, start, array, [&](const panta_buffer &buffer) {
            return panta_put_copied(writer_, variable.number(), first(start), &buffer);
        }));
    }

    // Puts one block by giving its vector away: no copy where the transport can.
    template <typename T>
    Nothing put_owned(Variable<T> variable, const Extents &start, std::vector<T> data, Extents count)
    {
        static_assert(!std::is_same_v<T, bool>, "a std::vector<bool> holds no bools");
        auto kept = std::make_unique<std::vector<T>>(std::move(data));
        std::size_t cells = 1;
        bool fits = true;
        for (std::int64_t side : count) {
            fits = fits && side >= 0 && (side == 0 || cells <= kept->size() / static_cast<std::size_t>(side));
            cells *= static_cast<std::size_t>(side);
        }
        if (!fits || cells != kept->size())
            return detail::done(refuse(PANTA_ERROR_SHAPE, "the vector has another size than its counts"));
        const View<const T> array(kept->data(), std::move(count));
        panta_status status = with(variable, start, array, [&](const panta_buffer &buffer) {
            return panta_put_owned(writer_, variable.number(), first(start), &buffer, &WriterStep::release<T>,
                                   kept.get());
        });
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
        panta_status status = with(variable, start, array, [&](const panta_buffer &buffer) {
            return panta_put_owned(writer_, variable.number(), first(start), &buffer,
                                   &WriterStep::call<Release>, kept.get());
        });
        if (status == PANTA_OK)
            kept.release();
        return detail::done(status);
    }

    // Memory of the transport to compute a block into, until end() is called.
    // Write every element: it holds zeros, or the values of an earlier step.
    template <typename T> Returned<View<T>> span(Variable<T> variable, const Extents &start, Extents count)
    {
        void *memory = nullptr;
        panta_status status = open();
        if (status != PANTA_OK)
            count.clear();
        else if (count.size() != variable.rank() || (!start.empty() && start.size() != count.size()))
            status = refuse(PANTA_ERROR_SHAPE, "the span has not one start and count for each dimension");
        else
            status = panta_span(writer_, variable.number(), dtype_of<T>, first(start), count.data(), &memory);
        return detail::give(status, View<T>(static_cast<T *>(memory), std::move(count)));
    }

    // Puts a value, taken at once.
    template <typename T> Nothing put_value(Variable<T> variable, const T &value)
    {
        const panta_status status = open();
        if (status != PANTA_OK)
            return detail::done(status);
        if constexpr (std::is_same_v<T, std::string>)
            return detail::done(value.find('\0') == std::string::npos
                                    ? panta_put_text(writer_, variable.number(), value.c_str())
                                    : refuse(PANTA_ERROR_ARGUMENT, "the text holds a zero byte, which would end it"));
        else
            return detail::done(panta_put_value(writer_, variable.number(), dtype_of<T>, &value));
    }

    // Ends the step; collective. True: sealed; false: discarded by the stream's policy.
    Returned<bool> end()
    {
        panta_sealed sealed = PANTA_SIZED(panta_sealed);
        panta_status status = open();
        if (status == PANTA_OK)
            status = panta_end_step(std::exchange(writer_, nullptr), &sealed);
        return detail::give(status, !sealed.discarded);
    }

    void abort()
    {
        if (writer_)
            panta_abort_step(std::exchange(writer_, nullptr));
    }

private:
    friend class Writer;
    WriterStep(panta_writer *writer, std::int64_t number) : writer_(writer), number_(number) {}

    // An error if the step is over, or was moved from.
    panta_status open() const
    {
        return writer_ ? PANTA_OK
                       : panta_fail(PANTA_ERROR_NO_STEP, "this step has ended; begin another with begin_step()");
    }

    // What was to be put and is refused here makes the step fail, as any put does.
    panta_status refuse(panta_status status, const char *words) const
    {
        panta_fail_step(writer_, words);
        return panta_fail(status, words);
    }

    template <typename T, typename Put>
    panta_status with(Variable<T> variable, const Extents &start, const View<const T> &array, Put put) const
    {
        const panta_status status = open();
        if (status != PANTA_OK)
            return status;
        if (array.fault())
            return refuse(PANTA_ERROR_SHAPE, array.fault());
        if (array.rank() != variable.rank())
            return refuse(PANTA_ERROR_SHAPE, ("the array has " + std::to_string(array.rank()) +
                                              " dimensions, the variable " + std::to_string(variable.rank()))
                                                 .c_str());
        if (!start.empty() && start.size() != array.rank())
            return refuse(PANTA_ERROR_SHAPE, "`start` has not one position for each dimension of the array");
        return put(array.buffer());
    }

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
            status = detail::named(
                name, [&](const char *c_name) { return panta_writer_open(c_name, comm.get(), &options, &writer); });
        return detail::give(status, Writer(writer));
    }

    template <typename T> Returned<Variable<T>> define(const std::string &name, const Shape &shape)
    {
        panta_variable variable = 0;
        panta_status status = shape.define(get(), name, dtype_of<T>, &variable);
        return detail::give(status, Variable<T>(variable, static_cast<std::size_t>(shape.dimensions_)));
    }

    template <typename T> Nothing set_shape(Variable<T> variable, const Extents &shape)
    {
        if (shape.size() != variable.rank())
            return detail::done(panta_fail(PANTA_ERROR_SHAPE, "the shape has other dimensions than the variable"));
        return detail::done(panta_set_shape(get(), variable.number(), shape.data()));
    }

    // Promises that what is defined stays as it is; then redefining is an error.
    Nothing freeze_definitions() { return detail::done(panta_freeze_definitions(get())); }

    // Sets an attribute of the stream: a number, a text, or a vector of either.
    template <typename A> Nothing set_attribute(const std::string &name, const A &value)
    {
        return detail::done(
            detail::named(name, [&](const char *c_name) { return set(PANTA_STREAM, c_name, value); }));
    }

    // The same of a variable.
    template <typename T, typename A>
    Nothing set_attribute(Variable<T> variable, const std::string &name, const A &value)
    {
        return detail::done(
            detail::named(name, [&](const char *c_name) { return set(variable.number(), c_name, value); }));
    }

    // Begins a step; collective.
    Returned<WriterStep> begin_step(double time = PANTA_NO_TIME, std::uint64_t bytes = 0)
    {
        std::int64_t number = -1;
        panta_status status = panta_begin_step_of(get(), time, bytes, &number);
        return detail::give(status, WriterStep(status == PANTA_OK ? get() : nullptr, number));
    }

    Returned<Engine> engine() const { return detail::engine(get(), &panta_writer_engine); }
    // This rank and the number of ranks.
    Returned<Group> group() const { return detail::group(get(), &panta_writer_group); }
    // The copies of payload so far.
    Returned<panta_copies> copies() const { return detail::copies(get(), &panta_writer_copies); }
    // Bytes of metadata that this rank has sent so far.
    Returned<std::uint64_t> metadata_bytes() const
    {
        return detail::number<std::uint64_t>(get(), &panta_writer_metadata_bytes);
    }

    Nothing set_deadline(std::chrono::milliseconds deadline)
    {
        return detail::done(panta_writer_set_deadline(get(), deadline.count()));
    }

    // Does what is there to do, where `options.silence_ms` was given; see panta_progress.
    Nothing progress() const { return detail::done(panta_progress(get())); }

    // A descriptor that is readable when progress() has something to do.
    Returned<int> wait_fd() const { return detail::number<std::int32_t>(get(), &panta_writer_wait_fd); }

    // Ends the wait under way and those to come, until it is cleared. Also from a signal
    // handler, and on any thread.
    void interrupt() const { panta_interrupt(get()); }
    void clear_interrupt() const { panta_clear_interrupt(get()); }
    Nothing close() { return detail::done(handle_.shut()); }
    panta_writer *get() const { return handle_.get(); }

private:
    explicit Writer(panta_writer *writer) : handle_(writer) {}

    panta_status set_text(panta_variable variable, const char *name, const std::string &text)
    {
        return detail::is_cut(text) ? detail::refuse_cut("the text")
                                    : panta_set_attribute_text(get(), variable, name, text.c_str());
    }

    template <typename A> panta_status set(panta_variable variable, const char *name, const A &value)
    {
        if constexpr (std::is_convertible_v<const A &, std::string_view>)
            return set_text(variable, name, std::string(std::string_view(value)));
        else if constexpr (std::is_floating_point_v<A>)
            return panta_set_attribute_f64(get(), variable, name, value);
        else if constexpr (std::is_signed_v<A>)
            return panta_set_attribute_i64(get(), variable, name, value);
        else
            return panta_set_attribute_u64(get(), variable, name, value);
    }
    template <typename A> panta_status set(panta_variable variable, const char *name, const std::vector<A> &values)
    {
        if constexpr (std::is_convertible_v<const A &, std::string_view>) {
            std::vector<std::string> texts(values.begin(), values.end());
            std::vector<const char *> pointers;
            for (const std::string &text : texts) {
                if (detail::is_cut(text))
                    return detail::refuse_cut("a text");
                pointers.push_back(text.c_str());
            }
            return panta_set_attribute_texts(get(), variable, name, pointers.data(), pointers.size());
        } else if constexpr (std::is_floating_point_v<A>) {
            std::vector<double> wide(values.begin(), values.end());
            return panta_set_attribute_f64s(get(), variable, name, wide.data(), wide.size());
        } else if constexpr (std::is_signed_v<A>) {
            std::vector<std::int64_t> wide(values.begin(), values.end());
            return panta_set_attribute_i64s(get(), variable, name, wide.data(), wide.size());
        } else {
            std::vector<std::uint64_t> wide(values.begin(), values.end());
            return panta_set_attribute_u64s(get(), variable, name, wide.data(), wide.size());
        }
    }

    detail::Owned<panta_writer, panta_writer_close> handle_;
};

} // inline namespace
} // namespace panta

#endif // PANTA_WRITER_HPP
