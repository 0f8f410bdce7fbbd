// Following a stream and getting from its steps.
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PANTA_READER_HPP
#define PANTA_READER_HPP

#include "comm.hpp"
#include "view.hpp"

namespace panta {
inline namespace PANTA_ERRORS_ {

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
    template <typename T>
    Nothing get_into(const std::string &variable, const Selection &selection, const View<T> &into)
    {
        static_assert(!std::is_const_v<T>, "memory to get into is written to");
        panta_status status = detail::check(selection);
        if (status == PANTA_OK)
            status = detail::with(into, [&](const panta_buffer &buffer) {
                return detail::named(variable, [&](const char *c_name) {
                    return panta_batch_get(handle_.get(), c_name, &selection, &buffer);
                });
            });
        return detail::done(status);
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
        panta_status status = find(name, &info);
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
        panta_status status = detail::named(
            variable, [&](const char *c_name) { return panta_block_at(step_, c_name, number, &info); });
        return detail::give(status, info);
    }
    // An attribute of the stream; its pointers live as long as the step.
    Returned<panta_attribute> attribute(const std::string &name) const
    {
        panta_attribute attribute = PANTA_SIZED(panta_attribute);
        panta_status status = detail::named(
            name, [&](const char *c_name) { return panta_find_attribute(step_, nullptr, c_name, &attribute); });
        return detail::give(status, attribute);
    }
    Returned<panta_attribute> attribute(const std::string &variable, const std::string &name) const
    {
        panta_attribute attribute = PANTA_SIZED(panta_attribute);
        panta_status status = detail::named(variable, [&](const char *c_variable) {
            return detail::named(name, [&](const char *c_name) {
                return panta_find_attribute(step_, c_variable, c_name, &attribute);
            });
        });
        return detail::give(status, attribute);
    }
    // The attribute at place `index`, below info().attributes.
    Returned<panta_attribute> attribute(std::uint64_t index) const
    {
        panta_attribute attribute = PANTA_SIZED(panta_attribute);
        panta_status status = panta_attribute_at(step_, index, &attribute);
        return detail::give(status, attribute);
    }

    // The extents of what a selection gives.
    Returned<Extents> selected(const std::string &variable,
                               const Selection &selection = everything()) const
    {
        std::int64_t count[PANTA_MAX_DIMS] = {};
        std::int32_t dimensions = 0;
        panta_status status = select(variable, selection, &dimensions, count);
        return detail::give(status, Extents(count, count + dimensions));
    }

    // Reads a selection into a new vector, the last dimension fastest.
    template <typename T>
    Returned<std::vector<T>> get(const std::string &variable,
                                 const Selection &selection = everything()) const
    {
        static_assert(!std::is_same_v<T, bool>, "a std::vector<bool> holds no bools; use get_into");
        std::int64_t count[PANTA_MAX_DIMS] = {};
        std::int32_t dimensions = 0;
        std::vector<T> data;
        panta_status status = select(variable, selection, &dimensions, count);
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
    Nothing get_into(const std::string &variable, const Selection &selection, const View<T> &into) const
    {
        static_assert(!std::is_const_v<T>, "memory to get into is written to");
        panta_status status = detail::check(selection);
        if (status == PANTA_OK)
            status = detail::with(into, [&](const panta_buffer &buffer) {
                return detail::named(
                    variable, [&](const char *c_name) { return panta_get(step_, c_name, &selection, &buffer); });
            });
        return detail::done(status);
    }

    // One value: of a global value, or the only element of anything.
    template <typename T> Returned<T> get_value(const std::string &variable) const
    {
        if constexpr (std::is_same_v<T, std::string>) {
            const char *text = nullptr;
            std::size_t length = 0;
            panta_status status = detail::named(
                variable, [&](const char *c_name) { return panta_get_text(step_, c_name, 0, &text, &length); });
            return detail::give(status, status == PANTA_OK ? std::string(text, length) : std::string());
        } else {
            T value = T();
            panta_status status = detail::named(
                variable, [&](const char *c_name) { return panta_get_value(step_, c_name, dtype_of<T>, &value); });
            return detail::give(status, value);
        }
    }

    // The texts of a variable, one for each put of a local value.
    Returned<std::vector<std::string>> get_texts(const std::string &variable) const
    {
        std::vector<std::string> texts;
        panta_variable_info info = PANTA_SIZED(panta_variable_info);
        panta_status status = find(variable, &info);
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
        panta_status status = detail::named(variable, [&](const char *c_name) {
            return panta_view_open(step_, c_name, dtype_of<T>, number, &buffer, &view);
        });
        Extents extents(buffer.count, buffer.count + buffer.dimensions), strides;
        for (std::int32_t i = 0; i < buffer.dimensions; i++)
            strides.push_back(buffer.strides_bytes[i] / static_cast<std::int64_t>(sizeof(T)));
        View<const T> array(static_cast<const T *>(buffer.data), std::move(extents), std::move(strides));
        return detail::give(status, PinnedView<T>(view, std::move(array)));
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

    panta_status select(const std::string &variable, const Selection &selection, std::int32_t *dimensions,
                        std::int64_t *count) const
    {
        panta_status status = detail::check(selection);
        if (status != PANTA_OK)
            return status;
        return detail::named(variable, [&](const char *c_name) {
            return panta_selected(step_, c_name, &selection, dimensions, count);
        });
    }

    panta_status find(const std::string &variable, panta_variable_info *info) const
    {
        return detail::named(variable,
                             [&](const char *c_name) { return panta_find_variable(step_, c_name, info); });
    }

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
            status = detail::named(
                name, [&](const char *c_name) { return panta_reader_open(c_name, comm.get(), &options, &reader); });
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
    Returned<int> wait_fd() const { return detail::number<std::int32_t>(get(), &panta_wait_fd); }

    // Does what is there to do, where `options.silence_ms` was given; see panta_progress.
    Nothing progress() const { return detail::done(panta_progress(get())); }

    // Remembers under `cursor` that the group is done with everything up to `step`.
    Nothing commit(const Step &step, const std::string &cursor)
    {
        return detail::done(detail::named(
            cursor, [&](const char *c_name) { return panta_commit(get(), step.get(), c_name); }));
    }

    // Says that what this rank gets of a step it will get of every step; see
    // panta_freeze_selections.
    Nothing freeze_selections() const { return detail::done(panta_freeze_selections(get())); }

    Returned<Engine> engine() const { return detail::engine(get(), &panta_reader_engine); }
    // This rank and the number of ranks.
    Returned<Group> group() const { return detail::group(get(), &panta_reader_group); }
    // The copies of payload so far.
    Returned<panta_copies> copies() const { return detail::copies(get(), &panta_reader_copies); }
    // Bytes of metadata so far.
    Returned<std::uint64_t> metadata_bytes() const
    {
        return detail::number<std::uint64_t>(get(), &panta_reader_metadata_bytes);
    }
    // Bytes of blocks that this rank took from where they are stored.
    Returned<std::uint64_t> fetched_bytes() const
    {
        return detail::number<std::uint64_t>(get(), &panta_reader_fetched_bytes);
    }
    // What was sent along with steps, and whether it was of use.
    Returned<panta_push_counts> push_counts() const
    {
        panta_push_counts counts = PANTA_SIZED(panta_push_counts);
        panta_status status = panta_reader_push_counts(get(), &counts);
        return detail::give(status, counts);
    }

    // Ends the wait under way and those to come, until it is cleared. Also from a signal
    // handler, and on any thread.
    void interrupt() const { panta_interrupt(get()); }
    void clear_interrupt() const { panta_clear_interrupt(get()); }
    Nothing close() { return detail::done(handle_.shut()); }
    panta_reader *get() const { return handle_.get(); }

private:
    explicit Reader(panta_reader *reader) : handle_(reader) {}
    detail::Owned<panta_reader, panta_reader_close> handle_;
    bool at_end_ = false;
};

} // inline namespace
} // namespace panta

#endif // PANTA_READER_HPP
