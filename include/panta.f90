! panta.f90: the Fortran interface of Panta, which moves the arrays of a running
! simulation, step by step, to the programs that want them.
!
! Writing:                                    Reading:
!   type(panta_writer) :: out                   type(panta_reader) :: in
!   type(panta_variable) :: u                   type(panta_step) :: step
!   call panta_writer_open('run42', out)        call panta_reader_open('run42', in)
!   call panta_define(out, u, 'u', &            do while (panta_next_step(in, step))
!                     PANTA_F64, [nx, ny])         call panta_get(step, 'u', field)
!   do while (running)                          end do
!      call panta_begin_step(out, time)         call panta_reader_close(in)
!      call panta_put(out, u, field, [1, 1])
!      call panta_end_step(out)
!   end do
!   call panta_writer_close(out)
!
! It is panta.h, whose first page says what all of it means, but for these:
!   - Dimensions are listed as Fortran lays arrays out, the fastest first, and are
!     turned round at the boundary: field(nx, ny) is u[ny][nx] to a C program.
!   - Positions, blocks and indices are counted from 1, in integers of 4 or 8 bytes.
!   - Arrays are of any type that Panta has and of rank 0 to 15. Sections are used
!     where they lie, without a temporary. Logicals may be of any kind.
!   - Names are used without their trailing blanks.
!   - panta_put takes what is put before it returns. panta_put_deferred reads it
!     when the step ends, as panta_put does in C: declare such arrays asynchronous
!     or target, and leave them alone until then.
!   - ierr gets the status. Without it, an error stops the program with its message.
!   - Unsigned variables are put and got as the integers with the same bits.
!
! Compiled with your program, by your compiler, as is panta_fortran.c beside it; the
! files in panta/ are its parts. panta_mpi.F90 adds MPI's communicators. Fortran 2018.
!
! SPDX-License-Identifier: MIT OR Apache-2.0
module panta
   use, intrinsic :: iso_c_binding
   use, intrinsic :: iso_fortran_env, only: error_unit
   implicit none
   private

   integer, parameter, public :: PANTA_MAX_DIMS = 16
   integer(c_int64_t), parameter, public :: PANTA_CONFIGURED = -1
   integer, parameter, public :: PANTA_OK = 0
   integer, parameter, public :: PANTA_END_OF_STREAM = 1
   integer, parameter, public :: PANTA_NOT_READY = 2
   integer, parameter, public :: PANTA_ERROR_NULL = 10
   integer, parameter, public :: PANTA_ERROR_STRUCT_SIZE = 11
   integer, parameter, public :: PANTA_ERROR_ARGUMENT = 12
   integer, parameter, public :: PANTA_ERROR_CLOSED_HANDLE = 13
   integer, parameter, public :: PANTA_ERROR_INVALID_HANDLE = 14
   integer, parameter, public :: PANTA_ERROR_BUSY_HANDLE = 15
   integer, parameter, public :: PANTA_ERROR_PANIC = 16
   integer, parameter, public :: PANTA_ERROR_TOO_MANY_HANDLES = 17
   integer, parameter, public :: PANTA_ERROR_CONFIG = 20
   integer, parameter, public :: PANTA_ERROR_NOT_FOUND = 21
   integer, parameter, public :: PANTA_ERROR_BUSY = 22
   integer, parameter, public :: PANTA_ERROR_COMMUNICATOR = 23
   integer, parameter, public :: PANTA_ERROR_DEFINITION = 30
   integer, parameter, public :: PANTA_ERROR_REDEFINED = 31
   integer, parameter, public :: PANTA_ERROR_UNKNOWN_VARIABLE = 32
   integer, parameter, public :: PANTA_ERROR_UNKNOWN_ATTRIBUTE = 33
   integer, parameter, public :: PANTA_ERROR_STEP_OPEN = 40
   integer, parameter, public :: PANTA_ERROR_NO_STEP = 41
   integer, parameter, public :: PANTA_ERROR_STEP_TOO_LARGE = 42
   integer, parameter, public :: PANTA_ERROR_DISAGREEMENT = 43
   integer, parameter, public :: PANTA_ERROR_DTYPE = 44
   integer, parameter, public :: PANTA_ERROR_SHAPE = 45
   integer, parameter, public :: PANTA_ERROR_IN_DOUBT = 46
   integer, parameter, public :: PANTA_ERROR_OVERLAP = 47
   integer, parameter, public :: PANTA_ERROR_WRITER_LOST = 50
   integer, parameter, public :: PANTA_ERROR_ROLLED_BACK = 51
   integer, parameter, public :: PANTA_ERROR_TRIMMED = 52
   integer, parameter, public :: PANTA_ERROR_WOULD_DEADLOCK = 53
   integer, parameter, public :: PANTA_ERROR_SELECTION = 60
   integer, parameter, public :: PANTA_ERROR_NO_SUCH_BLOCK = 61
   integer, parameter, public :: PANTA_ERROR_NOT_COVERED = 62
   integer, parameter, public :: PANTA_ERROR_CHECKSUM = 63
   integer, parameter, public :: PANTA_ERROR_IO = 70
   integer, parameter, public :: PANTA_ERROR_DEADLINE = 71
   integer, parameter, public :: PANTA_ERROR_INTERRUPTED = 72
   integer, parameter, public :: PANTA_ERROR_RANK_LOST = 73
   integer, parameter, public :: PANTA_ERROR_ON_RANK = 74
   integer, parameter, public :: PANTA_ERROR_PEER_LOST = 75
   integer, parameter, public :: PANTA_ERROR_REFUSED = 76
   integer, parameter, public :: PANTA_ERROR_CORRUPT = 77
   integer, parameter, public :: PANTA_ERROR_UNSUPPORTED = 78
   integer, parameter, public :: PANTA_ERROR_FENCED = 79
   integer, parameter, public :: PANTA_I8 = 1
   integer, parameter, public :: PANTA_I16 = 2
   integer, parameter, public :: PANTA_I32 = 3
   integer, parameter, public :: PANTA_I64 = 4
   integer, parameter, public :: PANTA_U8 = 5
   integer, parameter, public :: PANTA_U16 = 6
   integer, parameter, public :: PANTA_U32 = 7
   integer, parameter, public :: PANTA_U64 = 8
   integer, parameter, public :: PANTA_F32 = 9
   integer, parameter, public :: PANTA_F64 = 10
   integer, parameter, public :: PANTA_COMPLEX64 = 11
   integer, parameter, public :: PANTA_COMPLEX128 = 12
   integer, parameter, public :: PANTA_BOOL = 13
   integer, parameter, public :: PANTA_TEXT = 14
   integer, parameter, public :: PANTA_GLOBAL_ARRAY = 1
   integer, parameter, public :: PANTA_LOCAL_ARRAY = 2
   integer, parameter, public :: PANTA_JOINED_ARRAY = 3
   integer, parameter, public :: PANTA_GLOBAL_VALUE = 4
   integer, parameter, public :: PANTA_LOCAL_VALUE = 5
   integer, parameter, public :: PANTA_HOST = 0
   integer, parameter, public :: PANTA_CUDA = 1
   integer, parameter, public :: PANTA_ROCM = 2
   integer, parameter, public :: PANTA_LEVEL_ZERO = 3
   integer, parameter, public :: PANTA_RESUME_FRESH = 0
   integer, parameter, public :: PANTA_RESUME_LAST = 1
   integer, parameter, public :: PANTA_RESUME_AFTER = 2
   integer, parameter, public :: PANTA_START_OLDEST = 0
   integer, parameter, public :: PANTA_START_LATEST = 1
   integer, parameter, public :: PANTA_START_AT = 2
   integer, parameter, public :: PANTA_START_AFTER = 3
   integer, parameter, public :: PANTA_START_AT_TIME = 4
   integer, parameter, public :: PANTA_START_CURSOR = 5

   ! The handles. They are closed by their close procedures; copies are the same
   ! handle. A closed one, and one that was never opened, is an error.
   type, public :: panta_comm
      type(c_ptr) :: handle = c_null_ptr
   end type
   type, public :: panta_writer
      type(c_ptr) :: handle = c_null_ptr
   end type
   type, public :: panta_reader
      type(c_ptr) :: handle = c_null_ptr
   end type
   type, public :: panta_step
      type(c_ptr) :: handle = c_null_ptr
   end type
   ! Ends the waits of whatever was opened with it.
   type, public :: panta_interrupter
      type(c_ptr) :: handle = c_null_ptr
   end type
   type, public :: panta_view
      type(c_ptr) :: handle = c_null_ptr
   end type
   type, bind(C), public :: panta_batch
      type(c_ptr) :: handle = c_null_ptr
      type(c_ptr) :: step = c_null_ptr
      type(c_ptr) :: pending = c_null_ptr
   end type
   type, bind(C), public :: panta_variable
      integer(c_int64_t) :: number = 0
      integer(c_int32_t) :: dtype = 0
      integer(c_int32_t) :: dimensions = 0
   end type

   ! A step's identity and times; a time that was not given is a NaN.
   type, public :: panta_step_info
      integer(c_int64_t) :: number, epoch
      real(c_double) :: time
      integer(c_int64_t) :: wall_clock_ns, variables, attributes
   end type

   ! What was sent along with steps before it was asked for; see panta_freeze_selections.
   type, public :: panta_push_counts
      integer(c_int64_t) :: used = 0, used_bytes = 0, wasted = 0, wasted_bytes = 0
   end type

   ! What is known of values without reading them, as real numbers; not `known`
   ! where order has no meaning or nothing was put.
   type, public :: panta_stats
      logical :: known = .false.
      real(c_double) :: min = 0, max = 0
      integer(c_int64_t) :: nans = 0
   end type

   ! A variable as it is in one step.
   type, public :: panta_variable_info
      character(:), allocatable :: name, unit
      integer :: dtype, kind, joined_dimension ! 0 if none is joined
      integer(c_int64_t), allocatable :: shape(:), chunk(:) ! chunk: empty if none
      character(:), allocatable :: dimension_names(:), coordinates(:)
      logical :: has_fill
      integer(c_int64_t) :: blocks
      type(panta_stats) :: stats
      real(c_double) :: absolute_accuracy, relative_accuracy ! 0: no such bound
   end type

   ! A block that one rank put.
   type, public :: panta_block_info
      integer :: rank, order
      integer(c_int64_t), allocatable :: start(:), count(:)
      type(panta_stats) :: stats
   end type

   ! An attribute in force at a step. `variable` is empty for the stream's.
   type, public :: panta_attribute
      character(:), allocatable :: variable, name
      integer :: dtype
      logical :: is_array
      integer(c_int64_t), allocatable :: integers(:) ! PANTA_I64 and PANTA_U64
      real(c_double), allocatable :: reals(:)        ! PANTA_F64
      character(:), allocatable :: texts(:)          ! PANTA_TEXT
   end type

   abstract interface
      ! Gives the memory at `data` back; see panta_put_owned.
      subroutine panta_release(context, data) bind(C)
         import :: c_ptr
         type(c_ptr), value :: context, data
      end subroutine
   end interface
   public :: panta_release

   abstract interface
      ! Gathers `bytes_each` bytes of every rank, in rank order, into `all`, on every rank;
      ! see panta_comm_from_functions and, in panta.h, panta_comm_vtable.
      integer(c_int32_t) function panta_allgather(context, mine, all, bytes_each, deadline_ms, &
                                                  why, why_bytes) bind(C)
         import :: c_int32_t, c_int64_t, c_ptr, c_size_t
         type(c_ptr), value :: context, mine, all
         integer(c_int64_t), value :: bytes_each, deadline_ms
         type(c_ptr), value :: why
         integer(c_size_t), value :: why_bytes
      end function
   end interface
   public :: panta_allgather

   abstract interface
      ! Called with the `context` of a communicator when that is closed.
      subroutine panta_forget(context) bind(C)
         import :: c_ptr
         type(c_ptr), value :: context
      end subroutine
   end interface
   public :: panta_forget

   public :: panta_version, panta_status_name, panta_error_message, panta_error_status
   public :: panta_error_stream, panta_error_variable, panta_error_step, panta_error_rank
   public :: panta_comm_solo, panta_comm_procs, panta_comm_threads, panta_comm_close
   public :: panta_comm_from_functions
   public :: panta_writer_open, panta_writer_close, panta_writer_set_deadline
   public :: panta_writer_group, panta_writer_engine, panta_writer_copies
   public :: panta_writer_metadata_bytes, panta_reader_metadata_bytes
   public :: panta_reader_fetched_bytes, panta_reader_push_counts, panta_freeze_selections
   public :: panta_define, panta_define_local, panta_define_joined, panta_define_value
   public :: panta_set_shape, panta_set_attribute
   public :: panta_begin_step, panta_is_discarded, panta_end_step, panta_abort_step
   public :: panta_put, panta_put_deferred, panta_put_owned, panta_put_text, panta_span
   public :: panta_reader_open, panta_reader_close, panta_next_step, panta_commit
   public :: panta_reader_group, panta_reader_engine, panta_reader_copies
   public :: panta_step_detach, panta_step_close, panta_describe
   public :: panta_find_variable, panta_variable_at, panta_block_at
   public :: panta_find_attribute, panta_attribute_at, panta_get_attribute
   public :: panta_get, panta_get_text, panta_selected
   public :: panta_batch_open, panta_batch_get, panta_batch_finish, panta_batch_close
   public :: panta_view_open, panta_view_close
   public :: panta_interrupt, panta_clear_interrupt
   public :: panta_interrupter_open, panta_interrupter_close
   public :: panta_freeze_definitions, panta_wait_fd, panta_writer_wait_fd, panta_progress
   public :: panta_settle

   ! call panta_put(writer, variable, array [, start [, count]] [, ierr])
   ! `start` is where the block begins, from 1; without it, at the first cell.
   ! `count` says what the block's extents are where the array lacks those that
   ! are 1. Scalars are put into values; texts with panta_put_text.
   interface panta_put
      procedure :: put_plain, put_int32, put_int64
   end interface
   interface panta_put_deferred
      procedure :: put_deferred_plain, put_deferred_int32, put_deferred_int64
   end interface

   ! call panta_put_owned(writer, variable, array, release [, context] [, start] [, ierr])
   ! Lends the array until `release` is called, at the step's end at the earliest.
   interface panta_put_owned
      procedure :: put_owned_plain, put_owned_int32, put_owned_int64
   end interface

   ! call panta_span(writer, variable, memory, count [, start] [, ierr])
   ! Lends memory of the transport for a block, to compute into until the step's
   ! end: call c_f_pointer(memory, field, count).
   interface panta_span
      procedure :: span_int32, span_int64
   end interface

   ! call panta_get(step, name, array [, start [, count] [, stride]] [, block] [, ierr])
   ! Without `start`, all of the variable or block; else a box at `start`, of the
   ! array's shape or of `count`, from which the array may leave out ones.
   interface panta_get
      procedure :: get_plain, get_int32, get_int64
   end interface
   interface panta_batch_get
      procedure :: batch_get_plain, batch_get_int32, batch_get_int64
   end interface

   ! call panta_selected(step, name, shape [, start [, count] [, stride]] [, block] [, ierr])
   ! The shape that panta_get wants of an array.
   interface panta_selected
      procedure :: selected_plain, selected_int32, selected_int64
   end interface

   ! call panta_define(writer, variable, name, dtype, shape [, dimension_names] [, unit]
   !                   [, fill] [, chunk] [, coordinates] [, ierr]
   !                   [, absolute_accuracy] [, relative_accuracy])
   ! A global array: blocks are boxes of one array of this shape. An accuracy, of kind
   ! c_double, is how far numbers may be rounded, so that `compress` gains more: by so much
   ! in the unit of the elements, or by this part of each.
   interface panta_define
      procedure :: define_int32, define_int64
   end interface
   interface panta_define_joined
      procedure :: define_joined_int32, define_joined_int64
   end interface
   interface panta_set_shape
      procedure :: set_shape_int32, set_shape_int64
   end interface

   ! call panta_set_attribute(writer, name, value [, variable] [, ierr])
   ! An integer, real or text, or an array of them; of the stream, or a variable.
   interface panta_set_attribute
      procedure :: set_int32, set_int64, set_real32, set_real64, set_text
      procedure :: set_int32s, set_int64s, set_real32s, set_real64s, set_texts
   end interface

   ! call panta_get_attribute(step, name, value [, variable] [, ierr])
   ! A single one; of another type than `value`, it is an error.
   interface panta_get_attribute
      procedure :: attribute_int32, attribute_int64, attribute_real64, attribute_text
   end interface

   ! call panta_variable_at(step, index, info [, ierr])
   ! The variable at place `index`, from 1 to panta_step_info%variables.
   interface panta_variable_at
      procedure :: variable_at_int32, variable_at_int64
   end interface
   ! call panta_block_at(step, name, block, info [, ierr])
   ! The block at place `block`, from 1 to panta_variable_info%blocks.
   interface panta_block_at
      procedure :: block_at_int32, block_at_int64
   end interface
   ! call panta_attribute_at(step, index, attribute [, ierr])
   ! The attribute at place `index`, from 1 to panta_step_info%attributes.
   interface panta_attribute_at
      procedure :: attribute_at_int32, attribute_at_int64
   end interface

   ! call panta_interrupt(writer, reader or interrupter [, ierr])
   ! Ends its waits, the one under way and those to come, until panta_clear_interrupt. May be
   ! called from a signal handler and from any thread.
   interface panta_interrupt
      procedure :: interrupt_writer, interrupt_reader, interrupt_interrupter
   end interface
   ! call panta_describe(step or writer, info [, ierr])
   ! A step's identity and times; with a writer, of the step that is open.
   interface panta_describe
      procedure :: describe_step, describe_open_step
   end interface

   ! call panta_progress(writer or reader [, ierr])
   ! Does what is there to do for one that was opened with `silence_ms`; see panta.h.
   interface panta_progress
      procedure :: progress_writer, progress_reader
   end interface
   interface panta_clear_interrupt
      procedure :: clear_writer, clear_reader, clear_interrupter
   end interface

   include 'panta/c.inc'

contains

   include 'panta/texts.inc'
   include 'panta/handles.inc'
   include 'panta/writing.inc'
   include 'panta/definitions.inc'
   include 'panta/puts.inc'
   include 'panta/reading.inc'
   include 'panta/gets.inc'

end module panta
