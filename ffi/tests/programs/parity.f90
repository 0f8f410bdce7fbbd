! What the module has beyond puts and gets: lent arrays, spans, views, cursors,
! interrupts, lists of blocks, batches, polls. Fails unless the values are right.
! Usage: parity FILE_URL STREAM_URL
module lending
   use, intrinsic :: iso_c_binding
   implicit none
   integer, target :: releases = 0
   type(c_ptr) :: last = c_null_ptr
contains
   ! Counts where `context` points, and notes whose memory it was.
   ! What one rank gathers of all: its own.
   integer(c_int32_t) function gather(context, mine, all, bytes_each, deadline_ms, why, &
                                      why_bytes) bind(C)
      type(c_ptr), value :: context, mine, all
      integer(c_int64_t), value :: bytes_each, deadline_ms
      type(c_ptr), value :: why
      integer(c_size_t), value :: why_bytes
      integer(c_int8_t), pointer :: from(:), to(:)
      character(kind=c_char), pointer :: words(:)
      integer, pointer :: calls
      gather = 0
      if (.not. c_associated(context)) then
         call c_f_pointer(why, words, [why_bytes])
         words(:4) = ['n', 'o', '.', c_null_char]
         gather = 23
      else if (deadline_ms > 0) then
         call c_f_pointer(context, calls)
         calls = calls + 1
         call c_f_pointer(mine, from, [bytes_each])
         call c_f_pointer(all, to, [bytes_each])
         to = from
      end if
   end function

   subroutine forget(context) bind(C)
      type(c_ptr), value :: context
      integer, pointer :: calls
      call c_f_pointer(context, calls)
      calls = -1
   end subroutine

   subroutine released(context, data) bind(C)
      type(c_ptr), value :: context, data
      integer, pointer :: count
      if (c_associated(context)) then
         call c_f_pointer(context, count)
         count = count + 1
      end if
      last = data
   end subroutine
end module lending

program parity
   use panta
   use lending
   use, intrinsic :: iso_c_binding
   implicit none
   integer, parameter :: nx = 5, ny = 4, steps = 3
   character(1024) :: file, stream
   integer :: ierr

   call get_command_argument(1, file)
   call get_command_argument(2, stream)
   call write_file()
   call read_lent_and_spans()
   call read_blocks()
   call read_batches()
   call start_anywhere()
   call keep_a_step()
   call through_memory()
   call interrupts()
   call refusals()
   call own_communicators()
   print '(a)', 'parity: all as it should be'

contains

   subroutine expect(is, what)
      logical, intent(in) :: is
      character(*), intent(in) :: what
      if (is) return
      print '(4a)', 'not so: ', what, ': ', panta_error_message()
      error stop 1
   end subroutine

   ! The last call failed with `status`, and its message names `words`.
   subroutine refused(status, words)
      integer, intent(in) :: status
      character(*), intent(in) :: words
      if (ierr == status .and. index(panta_error_message(), words) > 0) return
      print '(a,i0,4a)', 'not so: ', ierr, ' for ', words, ': ', panta_error_message()
      error stop 1
   end subroutine

   pure function field(step) result(made)
      integer, intent(in) :: step
      real(c_double) :: made(nx, ny)
      integer :: i, j
      do j = 1, ny
         do i = 1, nx
            made(i, j) = 1000*step + 100*j + i
         end do
      end do
   end function

   ! `lent` in three blocks that are lent, `span` in two spans, `parts` in blocks whose
   ! number grows; a step that is given up leaves nothing.
   subroutine write_file()
      type(panta_writer) :: out
      type(panta_variable) :: lent, span, parts
      real(c_double), target, asynchronous :: upper(nx, 2), wide(2*nx, 1), lower(nx, 1)
      real(c_double) :: whole(nx, ny)
      real(c_double), pointer :: memory(:, :)
      type(c_ptr) :: place
      integer(c_int64_t) :: number
      type(panta_step_info) :: about
      integer :: step, part, before
      call panta_writer_open(file, out)
      call panta_define(out, lent, 'lent', PANTA_F64, [nx, ny])
      call panta_define(out, span, 'span', PANTA_F64, [nx, ny])
      call panta_define_local(out, parts, 'parts', PANTA_F64, 2)
      do step = 0, steps
         whole = field(step)
         upper = whole(:, 1:2)
         wide = -1
         wide(1::2, 1) = whole(:, 3)
         lower = whole(:, 4:4)
         call panta_begin_step(out, 0.5_c_double*step, bytes=100000_c_int64_t, number=number)
         call panta_describe(out, about)
         call expect(about%number == step .and. abs(about%time - 0.5*step) <= 0, 'the open step')
         call expect(about%epoch == 1 .and. about%wall_clock_ns > 0, 'its epoch and clock')
         before = releases
         call panta_put_owned(out, lent, upper, released, c_loc(releases))
         call panta_put_owned(out, lent, wide(1::2, :), released, c_loc(releases), [1, 3])
         call panta_put_owned(out, lent, lower, released, c_loc(releases), [1_c_int64_t, 4_c_int64_t])
         call panta_span(out, span, place, [nx, 1])
         call c_f_pointer(place, memory, [nx, 1])
         memory = whole(:, 1:1)
         call panta_span(out, span, place, [int(nx, c_int64_t), 3_c_int64_t], [1_c_int64_t, 2_c_int64_t])
         call c_f_pointer(place, memory, [nx, 3])
         memory = whole(:, 2:4)
         do part = 1, step + 1
            call panta_put(out, parts, whole(1:part, :))
         end do
         call expect(releases == before, 'what is lent is not given back before the end')
         if (step < steps) then
            call panta_end_step(out)
         else
            call panta_abort_step(out)
         end if
         call expect(releases == before + 3, 'what was lent comes back')
         call expect(c_associated(last), 'with its address')
         call expect(number == step, 'the number of a step that begins')
      end do
      call panta_writer_metadata_bytes(out, number)
      call expect(number > 0, 'bytes of metadata')
      call panta_describe(out, about, ierr)
      call refused(PANTA_ERROR_NO_STEP, 'no step is open')
      call panta_writer_close(out)
   end subroutine

   subroutine next(in, step, number)
      type(panta_reader), intent(in) :: in
      type(panta_step), intent(inout) :: step
      integer, intent(in) :: number
      type(panta_step_info) :: info
      call expect(panta_next_step(in, step), 'there is a step')
      call panta_describe(step, info)
      call expect(info%number == number, 'it is the one that is due')
   end subroutine

   subroutine read_lent_and_spans()
      type(panta_reader) :: in
      type(panta_step) :: step
      real(c_double) :: got(nx, ny)
      character(:), allocatable :: engine, transport, why
      integer(c_int64_t) :: bytes, calls
      type(panta_push_counts) :: pushes
      integer :: number, rank, ranks
      call panta_reader_open(file, in)
      do number = 0, steps - 1
         call next(in, step, number)
         call panta_get(step, 'lent', got)
         call expect(all(got == field(number)), 'what was lent')
         call panta_get(step, 'span', got)
         call expect(all(got == field(number)), 'what was computed in spans')
      end do
      call expect(.not. panta_next_step(in, step), 'the step that was given up is not shown')
      call panta_reader_engine(in, engine, transport, why)
      call expect(engine == 'file' .and. len(why) > 0, 'what carries it')
      call panta_reader_copies(in, bytes, calls)
      call expect(bytes >= 0 .and. calls >= 0, 'the copies')
      call panta_freeze_selections(in)
      call panta_reader_metadata_bytes(in, bytes)
      call expect(bytes > 0, 'bytes of metadata that came')
      bytes = -1
      call panta_reader_fetched_bytes(in, bytes)
      call expect(bytes >= 0, 'bytes of blocks that came')
      pushes%used = -1
      call panta_reader_push_counts(in, pushes)
      call expect(pushes%used == 0 .and. pushes%wasted_bytes == 0, 'a file sends nothing along')
      call panta_reader_group(in, rank, ranks)
      call expect(rank == 0 .and. ranks == 1, 'the group')
      call panta_reader_close(in)
   end subroutine

   subroutine read_blocks()
      type(panta_reader) :: in
      type(panta_step) :: step
      type(panta_variable_info) :: info
      type(panta_block_info) :: block
      real(c_double) :: whole(nx, ny)
      real(c_double), allocatable :: part(:, :)
      integer(c_int64_t), allocatable :: shape_of(:)
      integer(c_int64_t) :: at
      integer :: number
      call panta_reader_open(file, in)
      do number = 0, steps - 1
         call next(in, step, number)
         whole = field(number)
         call panta_find_variable(step, 'parts', info)
         call expect(info%blocks == number + 1 .and. info%kind == PANTA_LOCAL_ARRAY, 'blocks')
         do at = 1, info%blocks
            call panta_block_at(step, 'parts', at, block)
            call expect(all(block%count == [at, int(ny, c_int64_t)]), 'the extents of a block')
            call expect(block%rank == 0, 'whose it is')
            call expect(block%stats%known .and. block%stats%min == whole(1, 1) .and. &
                        block%stats%max == whole(at, ny) .and. block%stats%nans == 0, 'its values')
            call panta_selected(step, 'parts', shape_of, block=int(at))
            call expect(all(shape_of == block%count), 'what is selected of it')
            allocate (part(at, ny))
            call panta_get(step, 'parts', part, block=int(at))
            call expect(all(part == whole(1:at, :)), 'its cells')
            deallocate (part)
         end do
         call panta_find_variable(step, 'lent', info)
         call expect(info%blocks == 3, 'three blocks of a global array')
         call panta_block_at(step, 'lent', 2_c_int64_t, block)
         call expect(all(block%start == [1, 3]) .and. all(block%count == [nx, 1]), 'the second')
      end do
      call panta_reader_close(in)
   end subroutine

   subroutine read_batches()
      type(panta_reader) :: in
      type(panta_step) :: step
      type(panta_batch) :: batch
      real(c_double), asynchronous :: all_of(nx, ny), every(2, 2), box(2, 3), one(1, ny)
      real(c_double) :: whole(nx, ny)
      call panta_reader_open(file, in)
      call next(in, step, 0)
      call next(in, step, 1)
      whole = field(1)
      call panta_batch_open(step, batch)
      call panta_batch_get(batch, 'lent', all_of)
      call panta_batch_get(batch, 'span', every, [1, 2], count=[2, 2], stride=[3, 2])
      call panta_batch_get(batch, 'lent', box, [2_c_int64_t, 2_c_int64_t], &
                           count=[2_c_int64_t, 3_c_int64_t])
      call panta_batch_get(batch, 'parts', one, block=1)
      call panta_batch_finish(batch)
      call expect(all(all_of == whole), 'all of it')
      call expect(all(every == whole(1:4:3, 2:4:2)), 'every so many-th cell')
      call expect(all(box == whole(2:3, 2:4)), 'a box')
      call expect(all(one == whole(1:1, :)), 'a block')
      call panta_batch_open(step, batch)
      call panta_batch_get(batch, 'lent', one, ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`array`')
      call panta_batch_get(batch, 'nent', all_of, ierr=ierr)
      call refused(PANTA_ERROR_UNKNOWN_VARIABLE, '`lent`')
      call panta_batch_close(batch)
      call panta_reader_close(in)
   end subroutine

   ! Readers begin where they are told, and go on behind what they have committed.
   subroutine start_anywhere()
      type(panta_reader) :: in
      type(panta_step) :: step
      call panta_reader_open(file, in, start=PANTA_START_LATEST)
      call next(in, step, steps - 1)
      call panta_reader_close(in)
      call panta_reader_open(file, in, start=PANTA_START_AT, start_step=1_c_int64_t)
      call next(in, step, 1)
      call panta_reader_close(in)
      call panta_reader_open(file, in, start=PANTA_START_AFTER, start_step=1_c_int64_t)
      call next(in, step, 2)
      call panta_reader_close(in)
      call panta_reader_open(file, in, start=PANTA_START_AT_TIME, start_time=0.3_c_double)
      call next(in, step, 1)
      call panta_commit(in, step, 'mine')
      call next(in, step, 2)
      call panta_reader_close(in)
      call panta_reader_open(file, in, start=PANTA_START_CURSOR, cursor='mine  ')
      call next(in, step, 2)
      call expect(.not. panta_next_step(in, step), 'and then nothing')
      call panta_reader_close(in)
   end subroutine

   subroutine keep_a_step()
      type(panta_reader) :: in
      type(panta_step) :: kept, step
      type(panta_step_info) :: info
      real(c_double) :: got(nx, ny)
      call panta_reader_open(file, in)
      call next(in, kept, 0)
      call panta_step_detach(kept)
      call next(in, step, 1)
      call next(in, step, 2)
      call panta_reader_close(in)
      call panta_get(kept, 'lent', got)
      call expect(all(got == field(0)), 'a step that was kept outlives its reader')
      call panta_describe(kept, info)
      call expect(info%variables == 3, 'and says what it has')
      call panta_step_close(kept)
      call panta_get(kept, 'lent', got, ierr=ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'step')
      call panta_step_close(kept, ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'step')
   end subroutine

   ! Through memory that is shared: a span is seen in a view, at no copy.
   subroutine through_memory()
      type(panta_writer) :: out
      type(panta_variable) :: u
      type(panta_reader) :: in
      type(panta_step) :: step
      type(panta_view) :: view
      type(c_ptr) :: place
      real(c_double), pointer :: memory(:, :)
      integer(c_int64_t), allocatable :: count(:)
      integer(c_int64_t) :: bytes, calls
      integer :: number
      call panta_writer_open(stream, out)
      call panta_define(out, u, 'u', PANTA_F64, [nx, ny])
      call panta_reader_open(stream, in)
      do number = 0, 1
         call expect(.not. panta_next_step(in, step, 0_c_int64_t, ierr), 'a poll finds nothing')
         call expect(ierr == PANTA_NOT_READY, 'which is no error')
         call panta_begin_step(out)
         call panta_span(out, u, place, [nx, ny])
         call c_f_pointer(place, memory, [nx, ny])
         memory = field(number)
         call panta_end_step(out)
         call next(in, step, number)
         call panta_view_open(step, 'u', PANTA_F64, 1, view, place, count)
         call expect(all(count == [nx, ny]), 'the extents of a view')
         call c_f_pointer(place, memory, count)
         call expect(all(memory == field(number)), 'the values in a view')
         call panta_view_close(view)
         call panta_view_close(view, ierr)
         call refused(PANTA_ERROR_CLOSED_HANDLE, 'view')
      end do
      call panta_reader_copies(in, bytes, calls)
      call expect(bytes == 0, 'a view is no copy')
      call panta_writer_copies(out, bytes, calls)
      call expect(bytes == 0, 'nor is a span')
      call panta_view_open(step, 'u', PANTA_F32, 1, view, place, count, ierr)
      call refused(PANTA_ERROR_DTYPE, 'u')
      call panta_view_open(step, 'u', PANTA_F64, 2, view, place, count, ierr)
      call refused(PANTA_ERROR_NO_SUCH_BLOCK, 'from Fortran count from 1')
      call panta_reader_close(in)
      call panta_writer_close(out)
   end subroutine

   subroutine interrupts()
      type(panta_writer) :: out
      type(panta_reader) :: in
      type(panta_step) :: step
      type(panta_variable) :: u
      call panta_writer_open(stream, out)
      call panta_define(out, u, 'u', PANTA_F64, [nx, ny])
      ! Nobody reads yet: the first step would wait for a reader.
      call panta_interrupt(out)
      call panta_begin_step(out, ierr=ierr)
      call expect(ierr == PANTA_ERROR_INTERRUPTED, 'a writer that waits is interrupted')
      call panta_clear_interrupt(out)
      call panta_reader_open(stream, in)
      call panta_interrupt(in)
      call expect(.not. panta_next_step(in, step, ierr=ierr), 'no step')
      call expect(ierr == PANTA_ERROR_INTERRUPTED, 'a reader that waits is interrupted')
      call panta_clear_interrupt(in)
      call panta_begin_step(out)
      call panta_put(out, u, field(7))
      call panta_end_step(out)
      call expect(panta_next_step(in, step), 'and goes on')
      call panta_reader_close(in)
      call panta_interrupt(in, ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, '')
      call panta_writer_close(out)
   end subroutine

   ! What is lent, spanned or viewed wrongly is an error that names the argument.
   subroutine refusals()
      type(panta_writer) :: out
      type(panta_variable) :: u, flag
      type(panta_reader) :: in
      type(panta_step) :: step, none
      type(panta_view) :: view
      type(panta_block_info) :: block
      type(c_ptr) :: place
      integer(c_int64_t), allocatable :: count(:)
      real(c_float), target, asynchronous :: single(nx, ny)
      real(c_double), target, asynchronous :: row(nx)
      integer :: before
      single = 1
      row = 1
      call panta_writer_open('null:', out)
      call panta_define(out, u, 'u', PANTA_F64, [nx, ny])
      call panta_define(out, flag, 'flag', PANTA_BOOL, [nx])
      call panta_begin_step(out)
      before = releases
      call panta_put_owned(out, u, single, released, c_loc(releases), ierr=ierr)
      call refused(PANTA_ERROR_DTYPE, '`array` is real(4)')
      call panta_put_owned(out, u, row, released, c_loc(releases), ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`array` has rank 1, the variable 2')
      call expect(releases == before, 'what is refused stays the caller''s')
      call panta_span(out, u, place, [nx], ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`count`')
      call panta_span(out, u, place, [nx, ny], [2, 1], ierr)
      call refused(PANTA_ERROR_SHAPE, '`start`')
      call panta_span(out, flag, place, [nx], ierr=ierr)
      call refused(PANTA_ERROR_UNSUPPORTED, 'booleans')
      call panta_abort_step(out)
      call panta_writer_close(out)
      call panta_span(out, u, place, [nx, ny], ierr=ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'writer')
      call panta_reader_open(file, in)
      call next(in, step, 0)
      call panta_view_open(step, 'lent', PANTA_F64, 1, view, place, count, ierr)
      call refused(PANTA_ERROR_UNSUPPORTED, 'get the block')
      call panta_block_at(step, 'lent', 4_c_int64_t, block, ierr)
      call refused(PANTA_ERROR_NO_SUCH_BLOCK, 'from Fortran count from 1')
      call panta_get(step, 'parts', row, block=2, ierr=ierr)
      call refused(PANTA_ERROR_NO_SUCH_BLOCK, 'Fortran counts from 1')
      call panta_commit(in, none, 'mine', ierr)
      call refused(PANTA_ERROR_NULL, 'the step is NULL')
      call panta_reader_close(in)
      call panta_commit(in, step, 'mine', ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'the step was closed')
      call panta_view_open(step, 'lent', PANTA_F64, 1, view, place, count, ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'step')
   end subroutine
   ! Ranks that a function of the program's reaches.
   subroutine own_communicators()
      type(panta_comm) :: comm
      type(panta_writer) :: out
      integer, target :: calls
      calls = 0
      call panta_comm_from_functions(0, 1, gather, comm, c_loc(calls), forget)
      call panta_writer_open('null:', out, comm)
      call expect(calls > 0, 'the opening asked')
      call panta_comm_close(comm)
      call expect(calls == -1, 'and what it asked for is let go')
      call panta_writer_close(out)
      call panta_comm_from_functions(0, 2, gather, comm)
      call panta_writer_open('null:', out, comm, ierr=ierr)
      call refused(PANTA_ERROR_COMMUNICATOR, 'no.')
      call panta_comm_close(comm)
      call panta_comm_from_functions(3, 2, gather, comm, ierr=ierr)
      call refused(PANTA_ERROR_ARGUMENT, 'rank')
   end subroutine
end program parity
