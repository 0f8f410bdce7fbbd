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
! Compiled with your program, by your compiler, as is panta_fortran.c beside it.
! Panta_mpi.F90 adds MPI's communicators. Fortran 2018.
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

   public :: panta_version, panta_status_name, panta_error_message, panta_error_status
   public :: panta_error_stream, panta_error_variable, panta_error_step, panta_error_rank
   public :: panta_comm_solo, panta_comm_procs, panta_comm_threads, panta_comm_close
   public :: panta_writer_open, panta_writer_close, panta_writer_set_deadline
   public :: panta_writer_group, panta_writer_engine, panta_writer_copies
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

   interface panta_interrupt
      procedure :: interrupt_writer, interrupt_reader, interrupt_interrupter
   end interface
   ! call panta_progress(writer or reader [, ierr])
   ! Does what is there to do for one that was opened with `silence_ms`; see panta.h.
   interface panta_progress
      procedure :: progress_writer, progress_reader
   end interface
   interface panta_clear_interrupt
      procedure :: clear_writer, clear_reader, clear_interrupter
   end interface

   ! Positions or counts, the fastest dimension first; -1 dimensions: not given.
   type, bind(C) :: place
      integer(c_int64_t) :: dimensions = -1
      integer(c_int64_t) :: of(PANTA_MAX_DIMS)
   end type

   type(place), parameter :: nowhere = place(-1, 0)

   type, bind(C) :: selection
      type(place) :: start, count, stride
      integer(c_int64_t) :: block = 0
   end type

   ! Texts as C wants them.
   type :: c_texts
      character(kind=c_char), allocatable :: room(:)
      type(c_ptr), allocatable :: at(:)
   end type

   ! The structs of panta.h.
   type, bind(C) :: c_definition
      integer(c_size_t) :: size = 0
      type(c_ptr) :: name = c_null_ptr
      integer(c_int32_t) :: dtype = 0, kind = 0, dimensions = 0, joined_dimension = 0
      integer(c_int64_t) :: shape(PANTA_MAX_DIMS) = 0
      type(c_ptr) :: dimension_names = c_null_ptr, unit = c_null_ptr
      type(c_ptr) :: coordinates = c_null_ptr
      integer(c_size_t) :: coordinates_count = 0
      type(c_ptr) :: fill = c_null_ptr, chunk = c_null_ptr
      real(c_double) :: absolute_accuracy = 0, relative_accuracy = 0
   end type
   type, bind(C) :: c_writer_options
      integer(c_size_t) :: size = 0
      integer(c_int32_t) :: resume = 0, reserved = 0
      integer(c_int64_t) :: resume_step = 0, deadline_ms = PANTA_CONFIGURED
      type(c_ptr) :: interrupter = c_null_ptr
      integer(c_int64_t) :: silence_ms = 0
   end type
   type, bind(C) :: c_reader_options
      integer(c_size_t) :: size = 0
      integer(c_int32_t) :: start = 0, reserved = 0
      integer(c_int64_t) :: start_step = 0
      real(c_double) :: start_time = 0
      type(c_ptr) :: cursor = c_null_ptr, interrupter = c_null_ptr
      integer(c_int64_t) :: silence_ms = 0
   end type
   type, bind(C) :: c_sealed
      integer(c_size_t) :: size = 0
      integer(c_int64_t) :: step = 0
      integer(c_int32_t) :: discarded = 0, reserved = 0
   end type
   type, bind(C) :: c_step_info
      integer(c_size_t) :: size = 0
      integer(c_int64_t) :: number = 0, epoch = 0
      real(c_double) :: time = 0
      integer(c_int64_t) :: wall_clock_ns = 0, variables = 0, attributes = 0
   end type
   type, bind(C) :: c_number
      integer(c_int32_t) :: dtype = 0, reserved = 0
      integer(c_int64_t) :: i64 = 0, u64 = 0
      real(c_double) :: f64 = 0
   end type
   type, bind(C) :: c_stats
      integer(c_int32_t) :: known = 0, reserved = 0
      type(c_number) :: min, max
      integer(c_int64_t) :: nans = 0
   end type
   type, bind(C) :: c_variable_info
      integer(c_size_t) :: size = 0
      type(c_ptr) :: name = c_null_ptr
      integer(c_int32_t) :: dtype = 0, kind = 0, dimensions = 0, joined_dimension = 0
      integer(c_int64_t) :: shape(PANTA_MAX_DIMS) = 0
      type(c_ptr) :: dimension_names = c_null_ptr, unit = c_null_ptr
      type(c_ptr) :: coordinates = c_null_ptr
      integer(c_size_t) :: coordinates_count = 0
      type(c_ptr) :: fill = c_null_ptr, chunk = c_null_ptr
      integer(c_int64_t) :: blocks = 0
      type(c_stats) :: stats
      real(c_double) :: absolute_accuracy = 0, relative_accuracy = 0
   end type
   type, bind(C) :: c_block_info
      integer(c_size_t) :: size = 0
      integer(c_int32_t) :: rank = 0, order = 0, dimensions = 0, reserved = 0
      integer(c_int64_t) :: start(PANTA_MAX_DIMS) = 0, count(PANTA_MAX_DIMS) = 0
      type(c_stats) :: stats
   end type
   type, bind(C) :: c_attribute
      integer(c_size_t) :: size = 0
      type(c_ptr) :: variable = c_null_ptr, name = c_null_ptr
      integer(c_int32_t) :: dtype = 0, is_array = 0
      integer(c_size_t) :: count = 0
      type(c_ptr) :: i64s = c_null_ptr, u64s = c_null_ptr, f64s = c_null_ptr
      type(c_ptr) :: texts = c_null_ptr
   end type
   type, bind(C) :: c_buffer
      integer(c_size_t) :: size = 0
      type(c_ptr) :: data = c_null_ptr
      integer(c_int32_t) :: dtype = 0, space = 0, device = 0, dimensions = 0
      integer(c_int64_t) :: count(PANTA_MAX_DIMS) = 0, strides_bytes(PANTA_MAX_DIMS) = 0
   end type
   type, bind(C) :: c_engine_info
      integer(c_size_t) :: size = 0
      type(c_ptr) :: engine = c_null_ptr, transport = c_null_ptr, why = c_null_ptr
   end type
   type, bind(C) :: c_copies
      integer(c_size_t) :: size = 0
      integer(c_int64_t) :: bytes = 0, calls = 0
   end type

   ! panta_fortran.c, where descriptors are read.
   interface
      integer(c_int) function c_check() bind(C, name='panta_fortran_check')
         import :: c_int
      end function
      integer(c_int) function c_put(writer, variable, array, start, count) &
         bind(C, name='panta_fortran_put')
         import :: c_int, c_ptr, panta_variable, place
         type(c_ptr), value :: writer
         type(panta_variable), intent(in) :: variable
         type(*), dimension(..), intent(in) :: array
         type(place), intent(in) :: start, count
      end function
      integer(c_int) function c_put_deferred(writer, variable, array, start, count) &
         bind(C, name='panta_fortran_put_deferred')
         import :: c_int, c_ptr, panta_variable, place
         type(c_ptr), value :: writer
         type(panta_variable), intent(in) :: variable
         type(*), dimension(..), intent(in), asynchronous :: array
         type(place), intent(in) :: start, count
      end function
      integer(c_int) function c_put_owned(writer, variable, array, start, release, context) &
         bind(C, name='panta_fortran_put_owned')
         import :: c_int, c_ptr, c_funptr, panta_variable, place
         type(c_ptr), value :: writer
         type(panta_variable), intent(in) :: variable
         type(*), dimension(..), intent(in), asynchronous :: array
         type(place), intent(in) :: start
         type(c_funptr), value :: release
         type(c_ptr), value :: context
      end function
      integer(c_int) function c_span(writer, variable, start, count, memory) &
         bind(C, name='panta_fortran_span')
         import :: c_int, c_ptr, panta_variable, place
         type(c_ptr), value :: writer
         type(panta_variable), intent(in) :: variable
         type(place), intent(in) :: start, count
         type(c_ptr), intent(out) :: memory
      end function
      integer(c_int) function c_get(step, name, name_length, array, wanted) &
         bind(C, name='panta_fortran_get')
         import :: c_int, c_ptr, c_char, c_int64_t, selection
         type(c_ptr), value :: step
         character(kind=c_char), intent(in) :: name(*)
         integer(c_int64_t), value :: name_length
         type(*), dimension(..), intent(inout) :: array
         type(selection), intent(in) :: wanted
      end function
      integer(c_int) function c_batch_get(batch, name, name_length, array, wanted) &
         bind(C, name='panta_fortran_batch_get')
         import :: c_int, c_char, c_int64_t, selection, panta_batch
         type(panta_batch), intent(inout) :: batch
         character(kind=c_char), intent(in) :: name(*)
         integer(c_int64_t), value :: name_length
         type(*), dimension(..), intent(inout), asynchronous :: array
         type(selection), intent(in) :: wanted
      end function
      integer(c_int) function c_selected(step, name, name_length, wanted, shape) &
         bind(C, name='panta_fortran_selected')
         import :: c_int, c_ptr, c_char, c_int64_t, selection, place
         type(c_ptr), value :: step
         character(kind=c_char), intent(in) :: name(*)
         integer(c_int64_t), value :: name_length
         type(selection), intent(in) :: wanted
         type(place), intent(inout) :: shape
      end function
      integer(c_int) function c_batch_finish(batch) bind(C, name='panta_fortran_batch_finish')
         import :: c_int, panta_batch
         type(panta_batch), intent(inout) :: batch
      end function
      integer(c_int) function c_batch_close(batch) bind(C, name='panta_fortran_batch_close')
         import :: c_int, panta_batch
         type(panta_batch), intent(inout) :: batch
      end function
   end interface

   ! libpanta.
   interface
      type(c_ptr) function c_version() bind(C, name='panta_version')
         import :: c_ptr
      end function
      type(c_ptr) function c_status_name(status) bind(C, name='panta_status_name')
         import :: c_int32_t, c_ptr
         integer(c_int32_t), value :: status
      end function
      type(c_ptr) function c_error_message() bind(C, name='panta_error_message')
         import :: c_ptr
      end function
      type(c_ptr) function c_error_stream() bind(C, name='panta_error_stream')
         import :: c_ptr
      end function
      type(c_ptr) function c_error_variable() bind(C, name='panta_error_variable')
         import :: c_ptr
      end function
      integer(c_int32_t) function c_error_status() bind(C, name='panta_error_status')
         import :: c_int32_t
      end function
      integer(c_int32_t) function c_error_rank() bind(C, name='panta_error_rank')
         import :: c_int32_t
      end function
      integer(c_int64_t) function c_error_step() bind(C, name='panta_error_step')
         import :: c_int64_t
      end function
      integer(c_int) function c_fail(status, message) bind(C, name='panta_fail')
         import :: c_char, c_int, c_int32_t
         integer(c_int32_t), value :: status
         character(kind=c_char), intent(in) :: message(*)
      end function
      subroutine c_explain(words) bind(C, name='panta_explain')
         import :: c_char
         character(kind=c_char), intent(in) :: words(*)
      end subroutine
      integer(c_int) function c_comm_solo(comm) bind(C, name='panta_comm_solo')
         import :: c_int, c_ptr
         type(c_ptr), intent(out) :: comm
      end function
      integer(c_int) function c_comm_procs(comm) bind(C, name='panta_comm_procs')
         import :: c_int, c_ptr
         type(c_ptr), intent(out) :: comm
      end function
      integer(c_int) function c_comm_threads(size_of_group, comms) &
         bind(C, name='panta_comm_threads')
         import :: c_int, c_int32_t, c_ptr
         integer(c_int32_t), value :: size_of_group
         type(c_ptr), intent(out) :: comms(*)
      end function
      integer(c_int) function c_comm_close(comm) bind(C, name='panta_comm_close')
         import :: c_int, c_ptr
         type(c_ptr), value :: comm
      end function
      integer(c_int) function c_writer_open(name, comm, options, writer) &
         bind(C, name='panta_writer_open')
         import :: c_char, c_int, c_ptr, c_writer_options
         character(kind=c_char), intent(in) :: name(*)
         type(c_ptr), value :: comm
         type(c_writer_options), intent(in) :: options
         type(c_ptr), intent(out) :: writer
      end function
      integer(c_int) function c_writer_close(writer) bind(C, name='panta_writer_close')
         import :: c_int, c_ptr
         type(c_ptr), value :: writer
      end function
      integer(c_int) function c_writer_set_deadline(writer, deadline_ms) &
         bind(C, name='panta_writer_set_deadline')
         import :: c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: deadline_ms
      end function
      integer(c_int) function c_begin_step(writer, time, number) &
         bind(C, name='panta_begin_step')
         import :: c_double, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         real(c_double), value :: time
         integer(c_int64_t), intent(out) :: number
      end function
      integer(c_int) function c_begin_step_of(writer, time, bytes, number) &
         bind(C, name='panta_begin_step_of')
         import :: c_double, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         real(c_double), value :: time
         integer(c_int64_t), value :: bytes
         integer(c_int64_t), intent(out) :: number
      end function
      integer(c_int) function c_is_discarded(writer, discarded) &
         bind(C, name='panta_is_discarded')
         import :: c_int, c_int32_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int32_t), intent(out) :: discarded
      end function
      integer(c_int) function c_end_step(writer, sealed) bind(C, name='panta_end_step')
         import :: c_int, c_ptr, c_sealed
         type(c_ptr), value :: writer
         type(c_sealed), intent(inout) :: sealed
      end function
      integer(c_int) function c_abort_step(writer) bind(C, name='panta_abort_step')
         import :: c_int, c_ptr
         type(c_ptr), value :: writer
      end function
      integer(c_int) function c_writer_engine(writer, info) bind(C, name='panta_writer_engine')
         import :: c_engine_info, c_int, c_ptr
         type(c_ptr), value :: writer
         type(c_engine_info), intent(inout) :: info
      end function
      integer(c_int) function c_writer_copies(writer, copies) &
         bind(C, name='panta_writer_copies')
         import :: c_copies, c_int, c_ptr
         type(c_ptr), value :: writer
         type(c_copies), intent(inout) :: copies
      end function
      integer(c_int) function c_writer_group(writer, rank, size_of_group) &
         bind(C, name='panta_writer_group')
         import :: c_int, c_int32_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int32_t), intent(out) :: rank
         integer(c_int32_t), intent(out) :: size_of_group
      end function
      integer(c_int) function c_define(writer, definition, variable) &
         bind(C, name='panta_define')
         import :: c_definition, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         type(c_definition), intent(in) :: definition
         integer(c_int64_t), intent(out) :: variable
      end function
      integer(c_int) function c_set_shape(writer, variable, shape) &
         bind(C, name='panta_set_shape')
         import :: c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         integer(c_int64_t), intent(in) :: shape(*)
      end function
      integer(c_int) function c_set_attribute_i64(writer, variable, name, value) &
         bind(C, name='panta_set_attribute_i64')
         import :: c_char, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         character(kind=c_char), intent(in) :: name(*)
         integer(c_int64_t), value :: value
      end function
      integer(c_int) function c_set_attribute_f64(writer, variable, name, value) &
         bind(C, name='panta_set_attribute_f64')
         import :: c_char, c_double, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         character(kind=c_char), intent(in) :: name(*)
         real(c_double), value :: value
      end function
      integer(c_int) function c_set_attribute_text(writer, variable, name, value) &
         bind(C, name='panta_set_attribute_text')
         import :: c_char, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         character(kind=c_char), intent(in) :: name(*)
         character(kind=c_char), intent(in) :: value(*)
      end function
      integer(c_int) function c_set_attribute_i64s(writer, variable, name, values, count) &
         bind(C, name='panta_set_attribute_i64s')
         import :: c_char, c_int, c_int64_t, c_ptr, c_size_t
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         character(kind=c_char), intent(in) :: name(*)
         integer(c_int64_t), intent(in) :: values(*)
         integer(c_size_t), value :: count
      end function
      integer(c_int) function c_set_attribute_f64s(writer, variable, name, values, count) &
         bind(C, name='panta_set_attribute_f64s')
         import :: c_char, c_double, c_int, c_int64_t, c_ptr, c_size_t
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         character(kind=c_char), intent(in) :: name(*)
         real(c_double), intent(in) :: values(*)
         integer(c_size_t), value :: count
      end function
      integer(c_int) function c_set_attribute_texts(writer, variable, name, values, count) &
         bind(C, name='panta_set_attribute_texts')
         import :: c_char, c_int, c_int64_t, c_ptr, c_size_t
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         character(kind=c_char), intent(in) :: name(*)
         type(c_ptr), intent(in) :: values(*)
         integer(c_size_t), value :: count
      end function
      integer(c_int) function c_reader_open(name, comm, options, reader) &
         bind(C, name='panta_reader_open')
         import :: c_char, c_int, c_ptr, c_reader_options
         character(kind=c_char), intent(in) :: name(*)
         type(c_ptr), value :: comm
         type(c_reader_options), intent(in) :: options
         type(c_ptr), intent(out) :: reader
      end function
      integer(c_int) function c_put_text(writer, variable, text) bind(C, name='panta_put_text')
         import :: c_char, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int64_t), value :: variable
         character(kind=c_char), intent(in) :: text(*)
      end function
      integer(c_int) function c_reader_close(reader) bind(C, name='panta_reader_close')
         import :: c_int, c_ptr
         type(c_ptr), value :: reader
      end function
      integer(c_int) function c_next_step(reader, deadline_ms, step) &
         bind(C, name='panta_next_step')
         import :: c_int, c_int64_t, c_ptr
         type(c_ptr), value :: reader
         integer(c_int64_t), value :: deadline_ms
         type(c_ptr), intent(out) :: step
      end function
      integer(c_int) function c_commit(reader, step, cursor) bind(C, name='panta_commit')
         import :: c_char, c_int, c_ptr
         type(c_ptr), value :: reader
         type(c_ptr), value :: step
         character(kind=c_char), intent(in) :: cursor(*)
      end function
      integer(c_int) function c_reader_engine(reader, info) bind(C, name='panta_reader_engine')
         import :: c_engine_info, c_int, c_ptr
         type(c_ptr), value :: reader
         type(c_engine_info), intent(inout) :: info
      end function
      integer(c_int) function c_reader_copies(reader, copies) &
         bind(C, name='panta_reader_copies')
         import :: c_copies, c_int, c_ptr
         type(c_ptr), value :: reader
         type(c_copies), intent(inout) :: copies
      end function
      integer(c_int) function c_reader_group(reader, rank, size_of_group) &
         bind(C, name='panta_reader_group')
         import :: c_int, c_int32_t, c_ptr
         type(c_ptr), value :: reader
         integer(c_int32_t), intent(out) :: rank
         integer(c_int32_t), intent(out) :: size_of_group
      end function
      integer(c_int) function c_step_detach(step) bind(C, name='panta_step_detach')
         import :: c_int, c_ptr
         type(c_ptr), value :: step
      end function
      integer(c_int) function c_step_close(step) bind(C, name='panta_step_close')
         import :: c_int, c_ptr
         type(c_ptr), value :: step
      end function
      integer(c_int) function c_step_describe(step, info) bind(C, name='panta_step_describe')
         import :: c_int, c_ptr, c_step_info
         type(c_ptr), value :: step
         type(c_step_info), intent(inout) :: info
      end function
      integer(c_int) function c_find_variable(step, name, info) &
         bind(C, name='panta_find_variable')
         import :: c_char, c_int, c_ptr, c_variable_info
         type(c_ptr), value :: step
         character(kind=c_char), intent(in) :: name(*)
         type(c_variable_info), intent(inout) :: info
      end function
      integer(c_int) function c_variable_at(step, index, info) bind(C, name='panta_variable_at')
         import :: c_int, c_int64_t, c_ptr, c_variable_info
         type(c_ptr), value :: step
         integer(c_int64_t), value :: index
         type(c_variable_info), intent(inout) :: info
      end function
      integer(c_int) function c_block_at(step, variable, block, info) &
         bind(C, name='panta_block_at')
         import :: c_block_info, c_char, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: step
         character(kind=c_char), intent(in) :: variable(*)
         integer(c_int64_t), value :: block
         type(c_block_info), intent(inout) :: info
      end function
      integer(c_int) function c_find_attribute(step, variable, name, attribute) &
         bind(C, name='panta_find_attribute')
         import :: c_attribute, c_char, c_int, c_ptr
         type(c_ptr), value :: step
         type(c_ptr), value :: variable
         character(kind=c_char), intent(in) :: name(*)
         type(c_attribute), intent(inout) :: attribute
      end function
      integer(c_int) function c_attribute_at(step, index, attribute) &
         bind(C, name='panta_attribute_at')
         import :: c_attribute, c_int, c_int64_t, c_ptr
         type(c_ptr), value :: step
         integer(c_int64_t), value :: index
         type(c_attribute), intent(inout) :: attribute
      end function
      integer(c_int) function c_get_text(step, variable, index, text, length_bytes) &
         bind(C, name='panta_get_text')
         import :: c_char, c_int, c_int64_t, c_ptr, c_size_t
         type(c_ptr), value :: step
         character(kind=c_char), intent(in) :: variable(*)
         integer(c_int64_t), value :: index
         type(c_ptr), intent(out) :: text
         integer(c_size_t), intent(out) :: length_bytes
      end function
      integer(c_int) function c_batch_open(step, batch) bind(C, name='panta_batch_open')
         import :: c_int, c_ptr
         type(c_ptr), value :: step
         type(c_ptr), intent(out) :: batch
      end function
      integer(c_int) function c_view_open(step, variable, view_dtype, block, buffer, view) &
         bind(C, name='panta_view_open')
         import :: c_buffer, c_char, c_int, c_int32_t, c_int64_t, c_ptr
         type(c_ptr), value :: step
         character(kind=c_char), intent(in) :: variable(*)
         integer(c_int32_t), value :: view_dtype
         integer(c_int64_t), value :: block
         type(c_buffer), intent(inout) :: buffer
         type(c_ptr), intent(out) :: view
      end function
      integer(c_int) function c_view_close(view) bind(C, name='panta_view_close')
         import :: c_int, c_ptr
         type(c_ptr), value :: view
      end function
      integer(c_int) function c_interrupt(handle) bind(C, name='panta_interrupt')
         import :: c_int, c_ptr
         type(c_ptr), value :: handle
      end function
      integer(c_int) function c_clear_interrupt(handle) bind(C, name='panta_clear_interrupt')
         import :: c_int, c_ptr
         type(c_ptr), value :: handle
      end function
      integer(c_int) function c_progress(handle) bind(C, name='panta_progress')
         import :: c_int, c_ptr
         type(c_ptr), value :: handle
      end function
      integer(c_int) function c_writer_wait_fd(writer, descriptor) &
         bind(C, name='panta_writer_wait_fd')
         import :: c_int, c_int32_t, c_ptr
         type(c_ptr), value :: writer
         integer(c_int32_t), intent(out) :: descriptor
      end function
      integer(c_int) function c_interrupter_open(interrupter) &
         bind(C, name='panta_interrupter_open')
         import :: c_int, c_ptr
         type(c_ptr), intent(out) :: interrupter
      end function
      integer(c_int) function c_interrupter_close(interrupter) &
         bind(C, name='panta_interrupter_close')
         import :: c_int, c_ptr
         type(c_ptr), value :: interrupter
      end function
      integer(c_int) function c_freeze_definitions(writer) &
         bind(C, name='panta_freeze_definitions')
         import :: c_int, c_ptr
         type(c_ptr), value :: writer
      end function
      integer(c_int) function c_wait_fd(reader, descriptor) bind(C, name='panta_wait_fd')
         import :: c_int, c_int32_t, c_ptr
         type(c_ptr), value :: reader
         integer(c_int32_t), intent(out) :: descriptor
      end function
      integer(c_size_t) function c_strlen(text) bind(C, name='strlen')
         import :: c_size_t, c_ptr
         type(c_ptr), value :: text
      end function
   end interface

contains

   ! ---- Errors ----

   ! Hands a status on, or stops the program where nobody takes it.
   subroutine panta_settle(status, ierr)
      integer(c_int), intent(in) :: status
      integer, intent(out), optional :: ierr
      if (present(ierr)) then
         ierr = status
      else if (status /= PANTA_OK) then
         write (error_unit, '(a)') panta_error_message()
         error stop 1
      end if
   end subroutine

   ! The same where a block or put is asked for by its place.
   subroutine settle_place(status, ierr)
      integer(c_int), intent(in) :: status
      integer, intent(out), optional :: ierr
      if (status == PANTA_ERROR_NO_SUCH_BLOCK) &
         call c_explain(to_c(' (counted from 0; from Fortran count from 1)'))
      call panta_settle(status, ierr)
   end subroutine

   ! The version of the library that runs.
   function panta_version() result(text)
      character(:), allocatable :: text
      text = from_c(c_version())
   end function

   ! A status as its name is written here, such as 'PANTA_ERROR_SHAPE'.
   function panta_status_name(status) result(text)
      integer, intent(in) :: status
      character(:), allocatable :: text
      text = from_c(c_status_name(int(status, c_int32_t)))
   end function

   ! What went wrong in this thread's last call that failed, where, what to try.
   function panta_error_message() result(text)
      character(:), allocatable :: text
      text = from_c(c_error_message())
   end function

   ! The stream it happened in; empty if in none.
   function panta_error_stream() result(text)
      character(:), allocatable :: text
      text = from_c(c_error_stream())
   end function

   ! The variable it happened in; empty if in none.
   function panta_error_variable() result(text)
      character(:), allocatable :: text
      text = from_c(c_error_variable())
   end function

   integer function panta_error_status()
      panta_error_status = int(c_error_status())
   end function

   ! The step it happened in, or which the status speaks of; -1 if none.
   integer(c_int64_t) function panta_error_step()
      panta_error_step = c_error_step()
   end function

   ! The rank it happened on; -1 if on none in particular.
   integer function panta_error_rank()
      panta_error_rank = int(c_error_rank())
   end function

   ! ---- Texts and places ----

   ! A text of C; empty if there is none.
   function from_c(pointer) result(text)
      type(c_ptr), intent(in) :: pointer
      character(:), allocatable :: text
      integer(c_size_t) :: length
      length = 0
      if (c_associated(pointer)) length = c_strlen(pointer)
      call copy_text(pointer, length, text)
   end function

   subroutine copy_text(pointer, length, text)
      type(c_ptr), intent(in) :: pointer
      integer(c_size_t), intent(in) :: length
      character(:), allocatable, intent(out) :: text
      character(kind=c_char), pointer :: letters(:)
      integer(c_size_t) :: i
      allocate (character(length) :: text)
      if (length == 0) return
      call c_f_pointer(pointer, letters, [length])
      do i = 1, length
         text(i:i) = letters(i)
      end do
   end subroutine

   ! An array of texts of C, as long as its longest, the last first if `turned`.
   subroutine texts_from_c(pointer, count, turned, texts)
      type(c_ptr), intent(in) :: pointer
      integer(c_size_t), intent(in) :: count
      logical, intent(in) :: turned
      character(:), allocatable, intent(out) :: texts(:)
      type(c_ptr), pointer :: each(:)
      integer(c_size_t) :: i, n, longest
      n = count
      if (n == 0 .or. .not. c_associated(pointer)) then
         allocate (character(0) :: texts(0))
         return
      end if
      call c_f_pointer(pointer, each, [n])
      longest = 0
      do i = 1, n
         longest = max(longest, c_strlen(each(i)))
      end do
      allocate (character(longest) :: texts(n))
      do i = 1, n
         texts(merge(n + 1 - i, i, turned)) = from_c(each(i))
      end do
   end subroutine

   ! The other way; `texts` must be a target.
   subroutine texts_to_c(given, turned, texts)
      character(*), intent(in) :: given(:)
      logical, intent(in) :: turned
      type(c_texts), intent(inout), target :: texts
      integer :: i, j, n, used, length
      n = size(given)
      allocate (texts%room(n*(len(given) + 1) + 1), texts%at(n))
      used = 0
      do i = 1, n
         length = len_trim(given(i))
         texts%at(merge(n + 1 - i, i, turned)) = c_loc(texts%room(used + 1))
         do j = 1, length
            texts%room(used + j) = given(i) (j:j)
         end do
         texts%room(used + length + 1) = c_null_char
         used = used + length + 1
      end do
   end subroutine

   pure function to_c(text)
      character(*), intent(in) :: text
      character(len_trim(text) + 1, c_char) :: to_c
      to_c = trim(text)//c_null_char
   end function

   pure function place_int32(given) result(made)
      integer(c_int32_t), intent(in) :: given(:)
      type(place) :: made
      integer :: i, n
      n = min(size(given), PANTA_MAX_DIMS)
      made%dimensions = size(given)
      do i = 1, n
         made%of(i) = given(i)
      end do
      if (n < size(given)) made%dimensions = n
   end function

   pure function wanted_int32(start, count, stride, block) result(made)
      integer(c_int32_t), intent(in) :: start(:)
      integer(c_int32_t), intent(in), optional :: count(:), stride(:), block
      type(selection) :: made
      made%start = place_int32(start)
      if (present(count)) made%count = place_int32(count)
      if (present(stride)) made%stride = place_int32(stride)
      if (present(block)) made%block = block
   end function

   pure function place_int64(given) result(made)
      integer(c_int64_t), intent(in) :: given(:)
      type(place) :: made
      integer :: i, n
      n = min(size(given), PANTA_MAX_DIMS)
      made%dimensions = size(given)
      do i = 1, n
         made%of(i) = given(i)
      end do
      if (n < size(given)) made%dimensions = n
   end function

   pure function wanted_int64(start, count, stride, block) result(made)
      integer(c_int64_t), intent(in) :: start(:)
      integer(c_int64_t), intent(in), optional :: count(:), stride(:), block
      type(selection) :: made
      made%start = place_int64(start)
      if (present(count)) made%count = place_int64(count)
      if (present(stride)) made%stride = place_int64(stride)
      if (present(block)) made%block = block
   end function

   ! The order of C, which is the other way round.
   subroutine from_c_order(given, dimensions, first, shape)
      integer(c_int64_t), intent(in) :: given(:)
      integer(c_int32_t), intent(in) :: dimensions
      integer(c_int64_t), intent(in) :: first
      integer(c_int64_t), allocatable, intent(out) :: shape(:)
      integer :: n
      n = dimensions
      allocate (shape(n))
      shape(:) = given(n:1:-1) + first
   end subroutine

   ! ---- Communicators ----

   ! One rank alone; as no communicator.
   subroutine panta_comm_solo(comm, ierr)
      type(panta_comm), intent(out) :: comm
      integer, intent(out), optional :: ierr
      call panta_settle(c_comm_solo(comm%handle), ierr)
   end subroutine

   ! Ranks that are processes of one host: PANTA_RANK, PANTA_SIZE, PANTA_RENDEZVOUS.
   subroutine panta_comm_procs(comm, ierr)
      type(panta_comm), intent(out) :: comm
      integer, intent(out), optional :: ierr
      call panta_settle(c_comm_procs(comm%handle), ierr)
   end subroutine

   ! Ranks that are threads of this process, one communicator for each.
   subroutine panta_comm_threads(comms, ierr)
      type(panta_comm), intent(out) :: comms(:)
      integer, intent(out), optional :: ierr
      type(c_ptr) :: handles(size(comms))
      integer(c_int) :: status
      handles = c_null_ptr
      status = c_comm_threads(size(comms, kind=c_int32_t), handles)
      comms(:)%handle = handles
      call panta_settle(status, ierr)
   end subroutine

   ! Lets go of a communicator. Streams that were opened with it go on.
   subroutine panta_comm_close(comm, ierr)
      type(panta_comm), intent(in) :: comm
      integer, intent(out), optional :: ierr
      call panta_settle(c_comm_close(comm%handle), ierr)
   end subroutine

   ! ---- Writing ----

   ! Opens a stream for writing; collective over `comm`, which may be closed after.
   ! `resume` is PANTA_RESUME_FRESH (so without it), _LAST, or _AFTER `resume_step`.
   ! `interrupter` ends the waits of the opening, too. With `silence_ms` progress is made by
   ! hand: no thread is started, and the program stays away no longer than that at a time.
   subroutine panta_writer_open(name, writer, comm, resume, resume_step, deadline_ms, &
                                interrupter, ierr, silence_ms)
      character(*), intent(in) :: name
      type(panta_writer), intent(out) :: writer
      type(panta_comm), intent(in), optional :: comm
      integer, intent(in), optional :: resume
      integer(c_int64_t), intent(in), optional :: resume_step, deadline_ms
      integer, intent(out), optional :: ierr
      type(panta_interrupter), intent(in), optional :: interrupter
      integer(c_int64_t), intent(in), optional :: silence_ms
      type(c_writer_options) :: options
      type(c_ptr) :: group
      integer(c_int) :: status
      options%size = c_sizeof(options)
      if (present(resume)) options%resume = int(resume, c_int32_t)
      if (present(resume_step)) options%resume_step = resume_step
      if (present(deadline_ms)) options%deadline_ms = deadline_ms
      if (present(interrupter)) options%interrupter = interrupter%handle
      if (present(silence_ms)) options%silence_ms = silence_ms
      group = c_null_ptr
      if (present(comm)) group = comm%handle
      status = c_check()
      if (status == PANTA_OK .and. present(comm)) status = check_comm(comm)
      if (status == PANTA_OK) status = c_writer_open(to_c(name), group, options, writer%handle)
      call panta_settle(status, ierr)
   end subroutine

   ! No communicator is one rank alone; one that was never made is a mistake.
   integer(c_int) function check_comm(comm)
      type(panta_comm), intent(in) :: comm
      check_comm = PANTA_OK
      if (.not. c_associated(comm%handle)) check_comm = c_fail(int(PANTA_ERROR_NULL, c_int32_t), &
         to_c('`comm` was never made; leave it out to open with one rank'))
   end function

   ! Closes the stream; collective.
   subroutine panta_writer_close(writer, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out), optional :: ierr
      call panta_settle(c_writer_close(writer%handle), ierr)
   end subroutine

   ! Promises that what is defined stays as it is; then redefining is an error.
   subroutine panta_freeze_definitions(writer, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out), optional :: ierr
      call panta_settle(c_freeze_definitions(writer%handle), ierr)
   end subroutine

   ! How long each wait may take from now on.
   subroutine panta_writer_set_deadline(writer, deadline_ms, ierr)
      type(panta_writer), intent(in) :: writer
      integer(c_int64_t), intent(in) :: deadline_ms
      integer, intent(out), optional :: ierr
      call panta_settle(c_writer_set_deadline(writer%handle, deadline_ms), ierr)
   end subroutine

   ! Begins a step; collective. `time` is simulation time; `bytes`, how many this
   ! rank will put at most; `number`, the step's, from 0.
   subroutine panta_begin_step(writer, time, bytes, number, ierr)
      type(panta_writer), intent(in) :: writer
      real(c_double), intent(in), optional :: time
      integer(c_int64_t), intent(in), optional :: bytes
      integer(c_int64_t), intent(out), optional :: number
      integer, intent(out), optional :: ierr
      real(c_double) :: at
      integer(c_int64_t) :: begun
      integer(c_int) :: status
      ! No time is a NaN.
      at = transfer(int(z'7FF8000000000000', c_int64_t), 1.0_c_double)
      if (present(time)) at = time
      begun = -1
      if (present(bytes)) then
         status = c_begin_step_of(writer%handle, at, bytes, begun)
      else
         status = c_begin_step(writer%handle, at, begun)
      end if
      if (present(number)) number = begun
      call panta_settle(status, ierr)
   end subroutine

   ! Whether the stream's policy will discard the step that is open.
   logical function panta_is_discarded(writer, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out), optional :: ierr
      integer(c_int32_t) :: discarded
      integer(c_int) :: status
      discarded = 0
      status = c_is_discarded(writer%handle, discarded)
      panta_is_discarded = discarded /= 0
      call panta_settle(status, ierr)
   end function

   ! Ends the step; collective, with the same outcome on every rank.
   subroutine panta_end_step(writer, number, discarded, ierr)
      type(panta_writer), intent(in) :: writer
      integer(c_int64_t), intent(out), optional :: number
      logical, intent(out), optional :: discarded
      integer, intent(out), optional :: ierr
      type(c_sealed) :: sealed
      integer(c_int) :: status
      sealed%size = c_sizeof(sealed)
      status = c_end_step(writer%handle, sealed)
      if (present(number)) number = merge(sealed%step, -1_c_int64_t, status == PANTA_OK)
      if (present(discarded)) discarded = sealed%discarded /= 0
      call panta_settle(status, ierr)
   end subroutine

   ! Gives the step up, on every rank.
   subroutine panta_abort_step(writer, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out), optional :: ierr
      call panta_settle(c_abort_step(writer%handle), ierr)
   end subroutine

   ! This rank and the number of ranks of the writer's group.
   subroutine panta_writer_group(writer, rank, size_of_group, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out) :: rank, size_of_group
      integer, intent(out), optional :: ierr
      integer(c_int32_t) :: own, all
      integer(c_int) :: status
      own = -1
      all = 0
      status = c_writer_group(writer%handle, own, all)
      rank = int(own)
      size_of_group = int(all)
      call panta_settle(status, ierr)
   end subroutine

   ! What carries the stream, and why.
   subroutine panta_writer_engine(writer, engine, transport, why, ierr)
      type(panta_writer), intent(in) :: writer
      character(:), allocatable, intent(out) :: engine
      character(:), allocatable, intent(out), optional :: transport, why
      integer, intent(out), optional :: ierr
      type(c_engine_info) :: info
      integer(c_int) :: status
      info%size = c_sizeof(info)
      status = c_writer_engine(writer%handle, info)
      engine = from_c(info%engine)
      if (present(transport)) transport = from_c(info%transport)
      if (present(why)) why = from_c(info%why)
      call panta_settle(status, ierr)
   end subroutine

   ! The copies of payload made so far, and their bytes.
   subroutine panta_writer_copies(writer, bytes, calls, ierr)
      type(panta_writer), intent(in) :: writer
      integer(c_int64_t), intent(out) :: bytes, calls
      integer, intent(out), optional :: ierr
      type(c_copies) :: copies
      integer(c_int) :: status
      copies%size = c_sizeof(copies)
      status = c_writer_copies(writer%handle, copies)
      bytes = copies%bytes
      calls = copies%calls
      call panta_settle(status, ierr)
   end subroutine

   ! This rank and the number of ranks of the reader's group.
   subroutine panta_reader_group(reader, rank, size_of_group, ierr)
      type(panta_reader), intent(in) :: reader
      integer, intent(out) :: rank, size_of_group
      integer, intent(out), optional :: ierr
      integer(c_int32_t) :: own, all
      integer(c_int) :: status
      own = -1
      all = 0
      status = c_reader_group(reader%handle, own, all)
      rank = int(own)
      size_of_group = int(all)
      call panta_settle(status, ierr)
   end subroutine

   ! What carries the stream, and why.
   subroutine panta_reader_engine(reader, engine, transport, why, ierr)
      type(panta_reader), intent(in) :: reader
      character(:), allocatable, intent(out) :: engine
      character(:), allocatable, intent(out), optional :: transport, why
      integer, intent(out), optional :: ierr
      type(c_engine_info) :: info
      integer(c_int) :: status
      info%size = c_sizeof(info)
      status = c_reader_engine(reader%handle, info)
      engine = from_c(info%engine)
      if (present(transport)) transport = from_c(info%transport)
      if (present(why)) why = from_c(info%why)
      call panta_settle(status, ierr)
   end subroutine

   ! The copies of payload made so far, and their bytes.
   subroutine panta_reader_copies(reader, bytes, calls, ierr)
      type(panta_reader), intent(in) :: reader
      integer(c_int64_t), intent(out) :: bytes, calls
      integer, intent(out), optional :: ierr
      type(c_copies) :: copies
      integer(c_int) :: status
      copies%size = c_sizeof(copies)
      status = c_reader_copies(reader%handle, copies)
      bytes = copies%bytes
      calls = copies%calls
      call panta_settle(status, ierr)
   end subroutine

   ! ---- Definitions ----

   ! One element as bytes.
   subroutine fill_bytes(fill, dtype, room, status)
      class(*), intent(in) :: fill
      integer, intent(in) :: dtype
      integer(c_int8_t), intent(out) :: room(16)
      integer(c_int), intent(out) :: status
      integer :: found
      room = 0
      found = 0
      select type (fill)
      type is (real(c_double))
         found = PANTA_F64
         room(:8) = transfer(fill, room)
      type is (real(c_float))
         found = PANTA_F32
         room(:4) = transfer(fill, room)
      type is (complex(c_double))
         found = PANTA_COMPLEX128
         room(:16) = transfer(fill, room)
      type is (complex(c_float))
         found = PANTA_COMPLEX64
         room(:8) = transfer(fill, room)
      type is (integer(c_int8_t))
         found = PANTA_I8
         room(:1) = fill
      type is (integer(c_int16_t))
         found = PANTA_I16
         room(:2) = transfer(fill, room)
      type is (integer(c_int32_t))
         found = PANTA_I32
         room(:4) = transfer(fill, room)
      type is (integer(c_int64_t))
         found = PANTA_I64
         room(:8) = transfer(fill, room)
      type is (logical)
         found = PANTA_BOOL
         room(1) = merge(1_c_int8_t, 0_c_int8_t, fill)
      end select
      status = PANTA_OK
      if (found == dtype) return
      if (found >= PANTA_I8 .and. found <= PANTA_I64 .and. dtype == found + 4) return
      status = c_fail(int(PANTA_ERROR_DTYPE, c_int32_t), &
                      to_c('`fill` is not one element of the `dtype` that is defined'))
   end subroutine

   ! Defines a variable of any kind. `shape` and what goes with it are in Fortran's
   ! order.
   subroutine define_any(writer, variable, name, dtype, kind, shape, joined, &
                         dimension_names, unit, fill, chunk, coordinates, ierr, &
                         absolute_accuracy, relative_accuracy)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(out) :: variable
      character(*), intent(in) :: name
      integer, intent(in) :: dtype, kind, joined
      real(c_double), intent(in), optional :: absolute_accuracy, relative_accuracy
      integer(c_int64_t), intent(in) :: shape(:)
      character(*), intent(in), optional :: dimension_names(:), unit, coordinates(:)
      class(*), intent(in), optional :: fill
      integer(c_int64_t), intent(in), optional :: chunk(:)
      integer, intent(out), optional :: ierr
      type(c_definition) :: definition
      type(c_texts), target :: texts, names, others
      integer(c_int8_t), target :: room(16)
      integer(c_int64_t), target :: chunks(PANTA_MAX_DIMS)
      integer(c_int) :: status
      integer :: n
      n = size(shape)
      status = PANTA_OK
      if (n > PANTA_MAX_DIMS) status = c_fail(int(PANTA_ERROR_ARGUMENT, c_int32_t), &
         to_c('`shape` has more entries than a variable can have dimensions, which is 16'))
      if (present(dimension_names)) then
         if (size(dimension_names) /= n) status = c_fail(int(PANTA_ERROR_DEFINITION, c_int32_t), &
            to_c('`dimension_names` has not as many entries as `shape`'))
      end if
      if (present(chunk)) then
         if (size(chunk) /= n) status = c_fail(int(PANTA_ERROR_DEFINITION, c_int32_t), &
            to_c('`chunk` has not as many entries as `shape`'))
      end if
      if (status == PANTA_OK .and. present(fill)) call fill_bytes(fill, dtype, room, status)
      if (status /= PANTA_OK) then
         call panta_settle(status, ierr)
         return
      end if
      if (present(unit)) then
         call texts_to_c([character(max(len(name), len(unit))) :: name, unit], .false., texts)
         definition%unit = texts%at(2)
      else
         call texts_to_c([name], .false., texts)
      end if
      definition%size = c_sizeof(definition)
      definition%name = texts%at(1)
      definition%dtype = int(dtype, c_int32_t)
      definition%kind = int(kind, c_int32_t)
      definition%dimensions = int(n, c_int32_t)
      if (joined > 0) definition%joined_dimension = int(n - joined, c_int32_t)
      definition%shape(:n) = shape(n:1:-1)
      if (present(dimension_names)) then
         call texts_to_c(dimension_names, .true., names)
         if (n > 0) definition%dimension_names = c_loc(names%at)
      end if
      if (present(coordinates)) then
         call texts_to_c(coordinates, .false., others)
         definition%coordinates_count = size(coordinates, kind=c_size_t)
         if (size(coordinates) > 0) definition%coordinates = c_loc(others%at)
      end if
      if (present(fill)) definition%fill = c_loc(room)
      if (present(chunk)) then
         chunks(:n) = chunk(n:1:-1)
         definition%chunk = c_loc(chunks)
      end if
      if (present(absolute_accuracy)) definition%absolute_accuracy = absolute_accuracy
      if (present(relative_accuracy)) definition%relative_accuracy = relative_accuracy
      status = c_define(writer%handle, definition, variable%number)
      variable%dtype = int(dtype, c_int32_t)
      variable%dimensions = int(n, c_int32_t)
      call panta_settle(status, ierr)
   end subroutine

   subroutine define_int32(writer, variable, name, dtype, shape, dimension_names, unit, &
                           fill, chunk, coordinates, ierr, absolute_accuracy, relative_accuracy)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(out) :: variable
      character(*), intent(in) :: name
      integer, intent(in) :: dtype
      integer(c_int32_t), intent(in) :: shape(:)
      character(*), intent(in), optional :: dimension_names(:), unit, coordinates(:)
      class(*), intent(in), optional :: fill
      integer(c_int32_t), intent(in), optional :: chunk(:)
      integer, intent(out), optional :: ierr
      real(c_double), intent(in), optional :: absolute_accuracy, relative_accuracy
      if (present(chunk)) then
         call define_any(writer, variable, name, dtype, PANTA_GLOBAL_ARRAY, int(shape, c_int64_t), 0, &
                         dimension_names, unit, fill, int(chunk, c_int64_t), coordinates, ierr, &
                         absolute_accuracy, relative_accuracy)
      else
         call define_any(writer, variable, name, dtype, PANTA_GLOBAL_ARRAY, int(shape, c_int64_t), 0, &
                         dimension_names, unit, fill, coordinates=coordinates, ierr=ierr, &
                         absolute_accuracy=absolute_accuracy, relative_accuracy=relative_accuracy)
      end if
   end subroutine

   ! Blocks joined along `joined_dimension`, counted from 1, in the order (rank, put);
   ! its entry of `shape` does not count.
   subroutine define_joined_int32(writer, variable, name, dtype, shape, joined_dimension, &
                                  dimension_names, unit, coordinates, ierr, &
                                  absolute_accuracy, relative_accuracy)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(out) :: variable
      real(c_double), intent(in), optional :: absolute_accuracy, relative_accuracy
      character(*), intent(in) :: name
      integer, intent(in) :: dtype, joined_dimension
      integer(c_int32_t), intent(in) :: shape(:)
      character(*), intent(in), optional :: dimension_names(:), unit, coordinates(:)
      integer, intent(out), optional :: ierr
      if (joined_dimension < 1 .or. joined_dimension > size(shape)) then
         call panta_settle(c_fail(int(PANTA_ERROR_DEFINITION, c_int32_t), &
            to_c('`joined_dimension` is none of the dimensions of `shape`, from 1')), ierr)
         return
      end if
      call define_any(writer, variable, name, dtype, PANTA_JOINED_ARRAY, &
                      int(shape, c_int64_t), joined_dimension, dimension_names, unit, &
                      coordinates=coordinates, ierr=ierr, &
                      absolute_accuracy=absolute_accuracy, relative_accuracy=relative_accuracy)
   end subroutine

   ! Gives a global array another shape from the next step on.
   subroutine set_shape_int32(writer, variable, shape, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      integer(c_int32_t), intent(in) :: shape(:)
      integer, intent(out), optional :: ierr
      integer(c_int) :: status
      if (size(shape) /= variable%dimensions) then
         status = c_fail(int(PANTA_ERROR_SHAPE, c_int32_t), &
                         to_c('`shape` has not as many entries as the variable dimensions'))
      else
         status = c_set_shape(writer%handle, variable%number, &
                              int(shape(size(shape):1:-1), c_int64_t))
      end if
      call panta_settle(status, ierr)
   end subroutine

   subroutine define_int64(writer, variable, name, dtype, shape, dimension_names, unit, &
                           fill, chunk, coordinates, ierr, absolute_accuracy, relative_accuracy)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(out) :: variable
      character(*), intent(in) :: name
      integer, intent(in) :: dtype
      integer(c_int64_t), intent(in) :: shape(:)
      character(*), intent(in), optional :: dimension_names(:), unit, coordinates(:)
      class(*), intent(in), optional :: fill
      integer(c_int64_t), intent(in), optional :: chunk(:)
      integer, intent(out), optional :: ierr
      real(c_double), intent(in), optional :: absolute_accuracy, relative_accuracy
      call define_any(writer, variable, name, dtype, PANTA_GLOBAL_ARRAY, shape, 0, &
                      dimension_names, unit, fill, chunk, coordinates, ierr, &
                      absolute_accuracy, relative_accuracy)
   end subroutine

   ! Blocks joined along `joined_dimension`, counted from 1, in the order (rank, put);
   ! its entry of `shape` does not count.
   subroutine define_joined_int64(writer, variable, name, dtype, shape, joined_dimension, &
                                  dimension_names, unit, coordinates, ierr, &
                                  absolute_accuracy, relative_accuracy)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(out) :: variable
      real(c_double), intent(in), optional :: absolute_accuracy, relative_accuracy
      character(*), intent(in) :: name
      integer, intent(in) :: dtype, joined_dimension
      integer(c_int64_t), intent(in) :: shape(:)
      character(*), intent(in), optional :: dimension_names(:), unit, coordinates(:)
      integer, intent(out), optional :: ierr
      if (joined_dimension < 1 .or. joined_dimension > size(shape)) then
         call panta_settle(c_fail(int(PANTA_ERROR_DEFINITION, c_int32_t), &
            to_c('`joined_dimension` is none of the dimensions of `shape`, from 1')), ierr)
         return
      end if
      call define_any(writer, variable, name, dtype, PANTA_JOINED_ARRAY, &
                      int(shape, c_int64_t), joined_dimension, dimension_names, unit, &
                      coordinates=coordinates, ierr=ierr, &
                      absolute_accuracy=absolute_accuracy, relative_accuracy=relative_accuracy)
   end subroutine

   ! Gives a global array another shape from the next step on.
   subroutine set_shape_int64(writer, variable, shape, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      integer(c_int64_t), intent(in) :: shape(:)
      integer, intent(out), optional :: ierr
      integer(c_int) :: status
      if (size(shape) /= variable%dimensions) then
         status = c_fail(int(PANTA_ERROR_SHAPE, c_int32_t), &
                         to_c('`shape` has not as many entries as the variable dimensions'))
      else
         status = c_set_shape(writer%handle, variable%number, &
                              int(shape(size(shape):1:-1), c_int64_t))
      end if
      call panta_settle(status, ierr)
   end subroutine

   ! Blocks of any size, read one by one.
   subroutine panta_define_local(writer, variable, name, dtype, dimensions, &
                                 dimension_names, unit, coordinates, ierr, &
                                 absolute_accuracy, relative_accuracy)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(out) :: variable
      real(c_double), intent(in), optional :: absolute_accuracy, relative_accuracy
      character(*), intent(in) :: name
      integer, intent(in) :: dtype, dimensions
      character(*), intent(in), optional :: dimension_names(:), unit, coordinates(:)
      integer, intent(out), optional :: ierr
      integer(c_int64_t) :: shape(max(dimensions, 0))
      shape = 0
      call define_any(writer, variable, name, dtype, PANTA_LOCAL_ARRAY, shape, 0, &
                      dimension_names, unit, coordinates=coordinates, ierr=ierr, &
                      absolute_accuracy=absolute_accuracy, relative_accuracy=relative_accuracy)
   end subroutine

   ! One value for the whole stream or, if `local`, one for each put.
   subroutine panta_define_value(writer, variable, name, dtype, local, unit, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(out) :: variable
      character(*), intent(in) :: name
      integer, intent(in) :: dtype
      logical, intent(in), optional :: local
      character(*), intent(in), optional :: unit
      integer, intent(out), optional :: ierr
      integer(c_int64_t), parameter :: none(*) = [integer(c_int64_t) ::]
      integer :: kind
      kind = PANTA_GLOBAL_VALUE
      if (present(local)) kind = merge(PANTA_LOCAL_VALUE, PANTA_GLOBAL_VALUE, local)
      call define_any(writer, variable, name, dtype, kind, none, 0, unit=unit, ierr=ierr)
   end subroutine

   ! ---- Attributes ----

   pure integer(c_int64_t) function owner(variable)
      type(panta_variable), intent(in), optional :: variable
      owner = 0
      if (present(variable)) owner = variable%number
   end function

   subroutine set_int32(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      integer(c_int32_t), intent(in) :: value
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_i64(writer%handle, owner(variable), to_c(name), &
         int(value, c_int64_t)), ierr)
   end subroutine

   subroutine set_int64(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      integer(c_int64_t), intent(in) :: value
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_i64(writer%handle, owner(variable), to_c(name), &
         value), ierr)
   end subroutine

   subroutine set_real32(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      real(c_float), intent(in) :: value
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_f64(writer%handle, owner(variable), to_c(name), &
         real(value, c_double)), ierr)
   end subroutine

   subroutine set_real64(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      real(c_double), intent(in) :: value
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_f64(writer%handle, owner(variable), to_c(name), &
         value), ierr)
   end subroutine

   subroutine set_text(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      character(*), intent(in) :: value
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_text(writer%handle, owner(variable), to_c(name), &
         to_c(value)), ierr)
   end subroutine

   subroutine set_int32s(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      integer(c_int32_t), intent(in) :: value(:)
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_i64s(writer%handle, owner(variable), to_c(name), &
         int(value, c_int64_t), size(value, kind=c_size_t)), ierr)
   end subroutine

   subroutine set_int64s(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      integer(c_int64_t), intent(in) :: value(:)
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_i64s(writer%handle, owner(variable), to_c(name), &
         value, size(value, kind=c_size_t)), ierr)
   end subroutine

   subroutine set_real32s(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      real(c_float), intent(in) :: value(:)
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_f64s(writer%handle, owner(variable), to_c(name), &
         real(value, c_double), size(value, kind=c_size_t)), ierr)
   end subroutine

   subroutine set_real64s(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      real(c_double), intent(in) :: value(:)
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      call panta_settle(c_set_attribute_f64s(writer%handle, owner(variable), to_c(name), &
         value, size(value, kind=c_size_t)), ierr)
   end subroutine

   subroutine set_texts(writer, name, value, variable, ierr)
      type(panta_writer), intent(in) :: writer
      character(*), intent(in) :: name
      character(*), intent(in) :: value(:)
      type(panta_variable), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      type(c_texts), target :: texts
      call texts_to_c(value, .false., texts)
      call panta_settle(c_set_attribute_texts(writer%handle, owner(variable), to_c(name), &
         texts%at, size(value, kind=c_size_t)), ierr)
   end subroutine

   ! ---- Puts ----

   subroutine put_plain(writer, variable, array, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in) :: array
      integer, intent(out), optional :: ierr
      call panta_settle(c_put(writer%handle, variable, array, nowhere, nowhere), ierr)
   end subroutine

   subroutine put_int32(writer, variable, array, start, count, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in) :: array
      integer(c_int32_t), intent(in) :: start(:)
      integer(c_int32_t), intent(in), optional :: count(:)
      integer, intent(out), optional :: ierr
      type(place) :: extents
      if (present(count)) extents = place_int32(count)
      call panta_settle(c_put(writer%handle, variable, array, place_int32(start), extents), ierr)
   end subroutine

   subroutine put_int64(writer, variable, array, start, count, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in) :: array
      integer(c_int64_t), intent(in) :: start(:)
      integer(c_int64_t), intent(in), optional :: count(:)
      integer, intent(out), optional :: ierr
      type(place) :: extents
      if (present(count)) extents = place_int64(count)
      call panta_settle(c_put(writer%handle, variable, array, place_int64(start), extents), ierr)
   end subroutine

   subroutine put_deferred_plain(writer, variable, array, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in), asynchronous :: array
      integer, intent(out), optional :: ierr
      call panta_settle(c_put_deferred(writer%handle, variable, array, nowhere, nowhere), ierr)
   end subroutine

   subroutine put_deferred_int32(writer, variable, array, start, count, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in), asynchronous :: array
      integer(c_int32_t), intent(in) :: start(:)
      integer(c_int32_t), intent(in), optional :: count(:)
      integer, intent(out), optional :: ierr
      type(place) :: extents
      if (present(count)) extents = place_int32(count)
      call panta_settle(c_put_deferred(writer%handle, variable, array, place_int32(start), extents), ierr)
   end subroutine

   subroutine put_deferred_int64(writer, variable, array, start, count, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in), asynchronous :: array
      integer(c_int64_t), intent(in) :: start(:)
      integer(c_int64_t), intent(in), optional :: count(:)
      integer, intent(out), optional :: ierr
      type(place) :: extents
      if (present(count)) extents = place_int64(count)
      call panta_settle(c_put_deferred(writer%handle, variable, array, place_int64(start), extents), ierr)
   end subroutine

   subroutine put_owned_plain(writer, variable, array, release, context, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in), asynchronous :: array
      procedure(panta_release) :: release
      type(c_ptr), intent(in), optional :: context
      integer, intent(out), optional :: ierr
      type(c_ptr) :: handed
      handed = c_null_ptr
      if (present(context)) handed = context
      call panta_settle(c_put_owned(writer%handle, variable, array, nowhere, &
                        c_funloc(release), handed), ierr)
   end subroutine

   subroutine put_owned_int32(writer, variable, array, release, context, start, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in), asynchronous :: array
      procedure(panta_release) :: release
      type(c_ptr), intent(in), optional :: context
      integer(c_int32_t), intent(in) :: start(:)
      integer, intent(out), optional :: ierr
      type(c_ptr) :: handed
      handed = c_null_ptr
      if (present(context)) handed = context
      call panta_settle(c_put_owned(writer%handle, variable, array, place_int32(start), &
                        c_funloc(release), handed), ierr)
   end subroutine

   subroutine put_owned_int64(writer, variable, array, release, context, start, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(*), dimension(..), intent(in), asynchronous :: array
      procedure(panta_release) :: release
      type(c_ptr), intent(in), optional :: context
      integer(c_int64_t), intent(in) :: start(:)
      integer, intent(out), optional :: ierr
      type(c_ptr) :: handed
      handed = c_null_ptr
      if (present(context)) handed = context
      call panta_settle(c_put_owned(writer%handle, variable, array, place_int64(start), &
                        c_funloc(release), handed), ierr)
   end subroutine

   subroutine span_int32(writer, variable, memory, count, start, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(c_ptr), intent(out) :: memory
      integer(c_int32_t), intent(in) :: count(:)
      integer(c_int32_t), intent(in), optional :: start(:)
      integer, intent(out), optional :: ierr
      type(place) :: first
      if (present(start)) first = place_int32(start)
      memory = c_null_ptr
      call panta_settle(c_span(writer%handle, variable, first, place_int32(count), memory), ierr)
   end subroutine

   subroutine span_int64(writer, variable, memory, count, start, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      type(c_ptr), intent(out) :: memory
      integer(c_int64_t), intent(in) :: count(:)
      integer(c_int64_t), intent(in), optional :: start(:)
      integer, intent(out), optional :: ierr
      type(place) :: first
      if (present(start)) first = place_int64(start)
      memory = c_null_ptr
      call panta_settle(c_span(writer%handle, variable, first, place_int64(count), memory), ierr)
   end subroutine

   ! Puts a text of a global or local value.
   subroutine panta_put_text(writer, variable, text, ierr)
      type(panta_writer), intent(in) :: writer
      type(panta_variable), intent(in) :: variable
      character(*), intent(in) :: text
      integer, intent(out), optional :: ierr
      call panta_settle(c_put_text(writer%handle, variable%number, to_c(text)), ierr)
   end subroutine

   ! ---- Reading ----

   ! Opens a stream for reading; collective over `comm`. `start` is PANTA_START_OLDEST
   ! (so without it), _LATEST, _AT or _AFTER `start_step`, _AT_TIME `start_time`, or
   ! _CURSOR `cursor`.
   ! `interrupter` ends the waits of the opening, too. With `silence_ms` progress is made by
   ! hand: no thread is started, and the program stays away no longer than that at a time.
   subroutine panta_reader_open(name, reader, comm, start, start_step, start_time, cursor, &
                                interrupter, ierr, silence_ms)
      character(*), intent(in) :: name
      type(panta_reader), intent(out) :: reader
      type(panta_comm), intent(in), optional :: comm
      integer, intent(in), optional :: start
      integer(c_int64_t), intent(in), optional :: start_step
      real(c_double), intent(in), optional :: start_time
      character(*), intent(in), optional :: cursor
      integer, intent(out), optional :: ierr
      type(panta_interrupter), intent(in), optional :: interrupter
      integer(c_int64_t), intent(in), optional :: silence_ms
      type(c_reader_options) :: options
      type(c_texts), target :: texts
      type(c_ptr) :: group
      integer(c_int) :: status
      options%size = c_sizeof(options)
      if (present(start)) options%start = int(start, c_int32_t)
      if (present(start_step)) options%start_step = start_step
      if (present(start_time)) options%start_time = start_time
      if (present(interrupter)) options%interrupter = interrupter%handle
      if (present(silence_ms)) options%silence_ms = silence_ms
      if (present(cursor)) then
         call texts_to_c([cursor], .false., texts)
         options%cursor = texts%at(1)
      end if
      group = c_null_ptr
      if (present(comm)) group = comm%handle
      status = c_check()
      if (status == PANTA_OK .and. present(comm)) status = check_comm(comm)
      if (status == PANTA_OK) status = c_reader_open(to_c(name), group, options, reader%handle)
      call panta_settle(status, ierr)
   end subroutine

   ! A descriptor that becomes readable when panta_next_step should be called, on rank 0,
   ! for programs with a poll of their own: until that gives PANTA_NOT_READY.
   subroutine panta_wait_fd(reader, descriptor, ierr)
      type(panta_reader), intent(in) :: reader
      integer(c_int), intent(out) :: descriptor
      integer, intent(out), optional :: ierr
      descriptor = -1
      call panta_settle(c_wait_fd(reader%handle, descriptor), ierr)
   end subroutine

   ! A descriptor that is readable when panta_progress has something to do for the writer.
   subroutine panta_writer_wait_fd(writer, descriptor, ierr)
      type(panta_writer), intent(in) :: writer
      integer(c_int), intent(out) :: descriptor
      integer, intent(out), optional :: ierr
      descriptor = -1
      call panta_settle(c_writer_wait_fd(writer%handle, descriptor), ierr)
   end subroutine

   subroutine progress_writer(writer, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out), optional :: ierr
      call panta_settle(c_progress(writer%handle), ierr)
   end subroutine

   subroutine progress_reader(reader, ierr)
      type(panta_reader), intent(in) :: reader
      integer, intent(out), optional :: ierr
      call panta_settle(c_progress(reader%handle), ierr)
   end subroutine

   ! Leaves the stream. Detached steps and views stay.
   subroutine panta_reader_close(reader, ierr)
      type(panta_reader), intent(in) :: reader
      integer, intent(out), optional :: ierr
      call panta_settle(c_reader_close(reader%handle), ierr)
   end subroutine

   ! The next step; collective. True if there is one; false at the end of the stream
   ! or, with ierr, where that is PANTA_NOT_READY or an error. Waits `deadline_ms` at
   ! most, 0 to poll. The step before is let go, unless it was detached.
   logical function panta_next_step(reader, step, deadline_ms, ierr)
      type(panta_reader), intent(in) :: reader
      type(panta_step), intent(inout) :: step
      integer(c_int64_t), intent(in), optional :: deadline_ms
      integer, intent(out), optional :: ierr
      integer(c_int64_t) :: wait_ms
      integer(c_int) :: status
      wait_ms = PANTA_CONFIGURED
      if (present(deadline_ms)) wait_ms = deadline_ms
      step%handle = c_null_ptr
      status = c_next_step(reader%handle, wait_ms, step%handle)
      panta_next_step = status == PANTA_OK
      if (status == PANTA_END_OF_STREAM .and. .not. present(ierr)) return
      call panta_settle(status, ierr)
   end function

   ! Remembers under `cursor` that the group is done with everything up to `step`.
   subroutine panta_commit(reader, step, cursor, ierr)
      type(panta_reader), intent(in) :: reader
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: cursor
      integer, intent(out), optional :: ierr
      call panta_settle(c_commit(reader%handle, step%handle, to_c(cursor)), ierr)
   end subroutine

   ! Keeps the step beyond the reader's next one, until panta_step_close.
   subroutine panta_step_detach(step, ierr)
      type(panta_step), intent(in) :: step
      integer, intent(out), optional :: ierr
      call panta_settle(c_step_detach(step%handle), ierr)
   end subroutine

   subroutine panta_step_close(step, ierr)
      type(panta_step), intent(in) :: step
      integer, intent(out), optional :: ierr
      call panta_settle(c_step_close(step%handle), ierr)
   end subroutine

   ! The step's identity and times.
   subroutine panta_describe(step, info, ierr)
      type(panta_step), intent(in) :: step
      type(panta_step_info), intent(out) :: info
      integer, intent(out), optional :: ierr
      type(c_step_info) :: given
      integer(c_int) :: status
      given%size = c_sizeof(given)
      status = c_step_describe(step%handle, given)
      info = panta_step_info(given%number, given%epoch, given%time, given%wall_clock_ns, &
                             given%variables, given%attributes)
      call panta_settle(status, ierr)
   end subroutine

   pure function stats_of(given) result(stats)
      type(c_stats), intent(in) :: given
      type(panta_stats) :: stats
      stats = panta_stats(given%known /= 0, given%min%f64, given%max%f64, given%nans)
   end function

   subroutine settle_variable(status, given, info, ierr)
      integer(c_int), intent(in) :: status
      type(c_variable_info), intent(in) :: given
      type(panta_variable_info), intent(out) :: info
      integer, intent(out), optional :: ierr
      integer(c_int64_t), pointer :: chunk(:)
      integer(c_size_t) :: n
      n = given%dimensions
      info%name = from_c(given%name)
      info%unit = from_c(given%unit)
      info%dtype = given%dtype
      info%kind = given%kind
      info%joined_dimension = 0
      if (status == PANTA_OK .and. given%joined_dimension >= 0) &
         info%joined_dimension = given%dimensions - given%joined_dimension
      call from_c_order(given%shape, given%dimensions, 0_c_int64_t, info%shape)
      call texts_from_c(given%dimension_names, n, .true., info%dimension_names)
      call texts_from_c(given%coordinates, given%coordinates_count, .false., info%coordinates)
      if (c_associated(given%chunk)) then
         call c_f_pointer(given%chunk, chunk, [n])
         info%chunk = chunk(n:1:-1)
      else
         allocate (info%chunk(0))
      end if
      info%has_fill = c_associated(given%fill)
      info%blocks = given%blocks
      info%stats = stats_of(given%stats)
      info%absolute_accuracy = given%absolute_accuracy
      info%relative_accuracy = given%relative_accuracy
      call panta_settle(status, ierr)
   end subroutine

   ! The variable called `name` as it is in this step.
   subroutine panta_find_variable(step, name, info, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      type(panta_variable_info), intent(out) :: info
      integer, intent(out), optional :: ierr
      type(c_variable_info) :: given
      integer(c_int) :: status
      given%size = c_sizeof(given)
      status = c_find_variable(step%handle, to_c(name), given)
      call settle_variable(status, given, info, ierr)
   end subroutine

   ! The variable at place `index`, from 1 to panta_step_info%variables.
   subroutine panta_variable_at(step, index, info, ierr)
      type(panta_step), intent(in) :: step
      integer(c_int64_t), intent(in) :: index
      type(panta_variable_info), intent(out) :: info
      integer, intent(out), optional :: ierr
      type(c_variable_info) :: given
      integer(c_int) :: status
      given%size = c_sizeof(given)
      status = c_variable_at(step%handle, index - 1, given)
      call settle_variable(status, given, info, ierr)
   end subroutine

   ! The block at place `block`, from 1 to panta_variable_info%blocks.
   subroutine panta_block_at(step, name, block, info, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      integer(c_int64_t), intent(in) :: block
      type(panta_block_info), intent(out) :: info
      integer, intent(out), optional :: ierr
      type(c_block_info) :: given
      integer(c_int) :: status
      given%size = c_sizeof(given)
      status = c_block_at(step%handle, to_c(name), block - 1, given)
      info%rank = given%rank
      info%order = given%order
      call from_c_order(given%start, given%dimensions, 1_c_int64_t, info%start)
      call from_c_order(given%count, given%dimensions, 0_c_int64_t, info%count)
      info%stats = stats_of(given%stats)
      call settle_place(status, ierr)
   end subroutine

   subroutine settle_attribute(status, given, attribute, ierr)
      integer(c_int), intent(in) :: status
      type(c_attribute), intent(in) :: given
      type(panta_attribute), intent(out) :: attribute
      integer, intent(out), optional :: ierr
      integer(c_int64_t), pointer :: integers(:)
      real(c_double), pointer :: reals(:)
      attribute%variable = from_c(given%variable)
      attribute%name = from_c(given%name)
      attribute%dtype = given%dtype
      attribute%is_array = given%is_array /= 0
      allocate (attribute%integers(0), attribute%reals(0))
      if (c_associated(given%i64s)) then
         call c_f_pointer(given%i64s, integers, [given%count])
         attribute%integers = integers
      else if (c_associated(given%u64s)) then
         call c_f_pointer(given%u64s, integers, [given%count])
         attribute%integers = integers
      else if (c_associated(given%f64s)) then
         call c_f_pointer(given%f64s, reals, [given%count])
         attribute%reals = reals
      end if
      call texts_from_c(given%texts, given%count, .false., attribute%texts)
      call panta_settle(status, ierr)
   end subroutine

   ! Looks an attribute up as C gives it.
   integer(c_int) function find(step, name, variable, given)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      character(*), intent(in), optional :: variable
      type(c_attribute), intent(inout) :: given
      type(c_texts), target :: texts
      type(c_ptr) :: of
      of = c_null_ptr
      if (present(variable)) then
         call texts_to_c([variable], .false., texts)
         of = texts%at(1)
      end if
      given%size = c_sizeof(given)
      find = c_find_attribute(step%handle, of, to_c(name), given)
   end function

   ! The attribute called `name` of the stream, or of a variable.
   subroutine panta_find_attribute(step, name, attribute, variable, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      type(panta_attribute), intent(out) :: attribute
      character(*), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      type(c_attribute) :: given
      integer(c_int) :: status
      status = find(step, name, variable, given)
      call settle_attribute(status, given, attribute, ierr)
   end subroutine

   ! The attribute at place `index`, from 1 to panta_step_info%attributes.
   subroutine panta_attribute_at(step, index, attribute, ierr)
      type(panta_step), intent(in) :: step
      integer(c_int64_t), intent(in) :: index
      type(panta_attribute), intent(out) :: attribute
      integer, intent(out), optional :: ierr
      type(c_attribute) :: given
      integer(c_int) :: status
      given%size = c_sizeof(given)
      status = c_attribute_at(step%handle, index - 1, given)
      call settle_attribute(status, given, attribute, ierr)
   end subroutine

   ! Looks up a single integer, real or text.
   integer(c_int) function find_single(step, name, variable, dtype, attribute)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      character(*), intent(in), optional :: variable
      integer, intent(in) :: dtype
      type(panta_attribute), intent(out) :: attribute
      call panta_find_attribute(step, name, attribute, variable, find_single)
      if (find_single /= PANTA_OK) return
      if (attribute%dtype == dtype .and. .not. attribute%is_array) return
      if (attribute%dtype == PANTA_U64 .and. dtype == PANTA_I64 .and. .not. attribute%is_array) then
         if (attribute%integers(1) >= 0) return
      end if
      find_single = c_fail(int(PANTA_ERROR_DTYPE, c_int32_t), to_c('panta_get_attribute: `value` is not '// &
         'of the type of the attribute `'//trim(name)//'`; panta_find_attribute gives any'))
   end function

   subroutine attribute_int32(step, name, value, variable, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      integer(c_int32_t), intent(out) :: value
      character(*), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      type(panta_attribute) :: attribute
      integer(c_int) :: status
      status = find_single(step, name, variable, PANTA_I64, attribute)
      value = 0
      if (status == PANTA_OK) then
         if (abs(attribute%integers(1)) <= huge(value)) then
            value = int(attribute%integers(1), c_int32_t)
         else
            status = c_fail(int(PANTA_ERROR_DTYPE, c_int32_t), to_c('panta_get_attribute: the attribute `' &
               //trim(name)//'` needs an integer(8) as `value`'))
         end if
      end if
      call panta_settle(status, ierr)
   end subroutine

   subroutine attribute_int64(step, name, value, variable, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      integer(c_int64_t), intent(out) :: value
      character(*), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      type(panta_attribute) :: attribute
      integer(c_int) :: status
      status = find_single(step, name, variable, PANTA_I64, attribute)
      value = 0
      if (status == PANTA_OK) value = attribute%integers(1)
      call panta_settle(status, ierr)
   end subroutine

   subroutine attribute_real64(step, name, value, variable, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      real(c_double), intent(out) :: value
      character(*), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      type(panta_attribute) :: attribute
      integer(c_int) :: status
      status = find_single(step, name, variable, PANTA_F64, attribute)
      value = 0
      if (status == PANTA_OK) value = attribute%reals(1)
      call panta_settle(status, ierr)
   end subroutine

   subroutine attribute_text(step, name, value, variable, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      character(:), allocatable, intent(out) :: value
      character(*), intent(in), optional :: variable
      integer, intent(out), optional :: ierr
      type(panta_attribute) :: attribute
      integer(c_int) :: status
      status = find_single(step, name, variable, PANTA_TEXT, attribute)
      value = ''
      if (status == PANTA_OK) value = attribute%texts(1)
      call panta_settle(status, ierr)
   end subroutine

   ! ---- Gets ----

   subroutine get_plain(step, name, array, block, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      type(*), dimension(..), intent(inout) :: array
      integer, intent(in), optional :: block
      integer, intent(out), optional :: ierr
      type(selection) :: wanted
      if (present(block)) wanted%block = block
      call panta_settle(c_get(step%handle, name, len(name, c_int64_t), array, wanted), ierr)
   end subroutine

   subroutine get_int32(step, name, array, start, count, stride, block, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      type(*), dimension(..), intent(inout) :: array
      integer(c_int32_t), intent(in) :: start(:)
      integer(c_int32_t), intent(in), optional :: count(:), stride(:), block
      integer, intent(out), optional :: ierr
      type(selection) :: wanted
      wanted = wanted_int32(start, count, stride, block)
      call panta_settle(c_get(step%handle, name, len(name, c_int64_t), array, wanted), ierr)
   end subroutine

   subroutine get_int64(step, name, array, start, count, stride, block, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      type(*), dimension(..), intent(inout) :: array
      integer(c_int64_t), intent(in) :: start(:)
      integer(c_int64_t), intent(in), optional :: count(:), stride(:), block
      integer, intent(out), optional :: ierr
      type(selection) :: wanted
      wanted = wanted_int64(start, count, stride, block)
      call panta_settle(c_get(step%handle, name, len(name, c_int64_t), array, wanted), ierr)
   end subroutine

   subroutine batch_get_plain(batch, name, array, block, ierr)
      type(panta_batch), intent(inout) :: batch
      character(*), intent(in) :: name
      type(*), dimension(..), intent(inout), asynchronous :: array
      integer, intent(in), optional :: block
      integer, intent(out), optional :: ierr
      type(selection) :: wanted
      if (present(block)) wanted%block = block
      call panta_settle(c_batch_get(batch, name, len(name, c_int64_t), array, wanted), ierr)
   end subroutine

   subroutine batch_get_int32(batch, name, array, start, count, stride, block, ierr)
      type(panta_batch), intent(inout) :: batch
      character(*), intent(in) :: name
      type(*), dimension(..), intent(inout), asynchronous :: array
      integer(c_int32_t), intent(in) :: start(:)
      integer(c_int32_t), intent(in), optional :: count(:), stride(:), block
      integer, intent(out), optional :: ierr
      type(selection) :: wanted
      wanted = wanted_int32(start, count, stride, block)
      call panta_settle(c_batch_get(batch, name, len(name, c_int64_t), array, wanted), ierr)
   end subroutine

   subroutine batch_get_int64(batch, name, array, start, count, stride, block, ierr)
      type(panta_batch), intent(inout) :: batch
      character(*), intent(in) :: name
      type(*), dimension(..), intent(inout), asynchronous :: array
      integer(c_int64_t), intent(in) :: start(:)
      integer(c_int64_t), intent(in), optional :: count(:), stride(:), block
      integer, intent(out), optional :: ierr
      type(selection) :: wanted
      wanted = wanted_int64(start, count, stride, block)
      call panta_settle(c_batch_get(batch, name, len(name, c_int64_t), array, wanted), ierr)
   end subroutine

   subroutine selected_plain(step, name, shape, block, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      integer(c_int64_t), allocatable, intent(out) :: shape(:)
      integer, intent(in), optional :: block
      integer, intent(out), optional :: ierr
      type(place) :: found
      integer(c_int) :: status
      type(selection) :: wanted
      if (present(block)) wanted%block = block
      status = c_selected(step%handle, name, len(name, c_int64_t), wanted, found)
      allocate (shape(found%dimensions))
      shape = found%of(:size(shape))
      call panta_settle(status, ierr)
   end subroutine

   subroutine selected_int32(step, name, shape, start, count, stride, block, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      integer(c_int64_t), allocatable, intent(out) :: shape(:)
      integer(c_int32_t), intent(in) :: start(:)
      integer(c_int32_t), intent(in), optional :: count(:), stride(:), block
      integer, intent(out), optional :: ierr
      type(place) :: found
      integer(c_int) :: status
      type(selection) :: wanted
      wanted = wanted_int32(start, count, stride, block)
      status = c_selected(step%handle, name, len(name, c_int64_t), wanted, found)
      allocate (shape(found%dimensions))
      shape = found%of(:size(shape))
      call panta_settle(status, ierr)
   end subroutine

   subroutine selected_int64(step, name, shape, start, count, stride, block, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      integer(c_int64_t), allocatable, intent(out) :: shape(:)
      integer(c_int64_t), intent(in) :: start(:)
      integer(c_int64_t), intent(in), optional :: count(:), stride(:), block
      integer, intent(out), optional :: ierr
      type(place) :: found
      integer(c_int) :: status
      type(selection) :: wanted
      wanted = wanted_int64(start, count, stride, block)
      status = c_selected(step%handle, name, len(name, c_int64_t), wanted, found)
      allocate (shape(found%dimensions))
      shape = found%of(:size(shape))
      call panta_settle(status, ierr)
   end subroutine

   ! A text of a global value, or of the `index`-th put of a local value, from 1.
   subroutine panta_get_text(step, name, text, index, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      character(:), allocatable, intent(out) :: text
      integer, intent(in), optional :: index
      integer, intent(out), optional :: ierr
      type(c_ptr) :: found
      integer(c_size_t) :: length
      integer(c_int64_t) :: at
      integer(c_int) :: status
      at = 0
      if (present(index)) at = index - 1
      found = c_null_ptr
      length = 0
      status = c_get_text(step%handle, to_c(name), at, found, length)
      call copy_text(found, length, text)
      call settle_place(status, ierr)
   end subroutine

   ! Begins several reads that are done together.
   subroutine panta_batch_open(step, batch, ierr)
      type(panta_step), intent(in) :: step
      type(panta_batch), intent(out) :: batch
      integer, intent(out), optional :: ierr
      batch%step = step%handle
      call panta_settle(c_batch_open(step%handle, batch%handle), ierr)
   end subroutine

   ! Does the reads and closes the batch. Until then the arrays that were given are
   ! the library's: asynchronous or target, and left alone.
   subroutine panta_batch_finish(batch, ierr)
      type(panta_batch), intent(inout) :: batch
      integer, intent(out), optional :: ierr
      call panta_settle(c_batch_finish(batch), ierr)
   end subroutine

   ! Closes a batch without doing its reads.
   subroutine panta_batch_close(batch, ierr)
      type(panta_batch), intent(inout) :: batch
      integer, intent(out), optional :: ierr
      call panta_settle(c_batch_close(batch), ierr)
   end subroutine

   ! Gives a block in place, without a copy, until panta_view_close:
   ! call c_f_pointer(memory, field, count). It is not to be written to.
   ! PANTA_ERROR_UNSUPPORTED where the engine has no memory to share.
   subroutine panta_view_open(step, name, dtype, block, view, memory, count, ierr)
      type(panta_step), intent(in) :: step
      character(*), intent(in) :: name
      integer, intent(in) :: dtype, block
      type(panta_view), intent(out) :: view
      type(c_ptr), intent(out) :: memory
      integer(c_int64_t), allocatable, intent(out) :: count(:)
      integer, intent(out), optional :: ierr
      type(c_buffer) :: buffer
      integer(c_int) :: status
      buffer%size = c_sizeof(buffer)
      status = c_view_open(step%handle, to_c(name), int(dtype, c_int32_t), &
                           int(block - 1, c_int64_t), buffer, view%handle)
      memory = buffer%data
      call from_c_order(buffer%count, buffer%dimensions, 0_c_int64_t, count)
      call settle_place(status, ierr)
   end subroutine

   ! Gives the memory of a view back.
   subroutine panta_view_close(view, ierr)
      type(panta_view), intent(in) :: view
      integer, intent(out), optional :: ierr
      call panta_settle(c_view_close(view%handle), ierr)
   end subroutine

   ! ---- Interrupts ----

   ! Ends the waits of a writer or reader, the one under way and those to come, until
   ! panta_clear_interrupt. May be called from a signal handler and from any thread.
   ! Ends the waits of what is opened with it, also of the opening: panta_interrupt takes
   ! it as it takes a writer or reader.
   subroutine panta_interrupter_open(interrupter, ierr)
      type(panta_interrupter), intent(out) :: interrupter
      integer, intent(out), optional :: ierr
      call panta_settle(c_interrupter_open(interrupter%handle), ierr)
   end subroutine

   ! Lets go of it. What was opened with it goes on.
   subroutine panta_interrupter_close(interrupter, ierr)
      type(panta_interrupter), intent(in) :: interrupter
      integer, intent(out), optional :: ierr
      call panta_settle(c_interrupter_close(interrupter%handle), ierr)
   end subroutine

   subroutine interrupt_interrupter(interrupter, ierr)
      type(panta_interrupter), intent(in) :: interrupter
      integer, intent(out), optional :: ierr
      call panta_settle(c_interrupt(interrupter%handle), ierr)
   end subroutine

   subroutine clear_interrupter(interrupter, ierr)
      type(panta_interrupter), intent(in) :: interrupter
      integer, intent(out), optional :: ierr
      call panta_settle(c_clear_interrupt(interrupter%handle), ierr)
   end subroutine

   subroutine interrupt_writer(writer, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out), optional :: ierr
      call panta_settle(c_interrupt(writer%handle), ierr)
   end subroutine

   ! Ends the waits of a writer or reader, the one under way and those to come, until
   ! panta_clear_interrupt. May be called from a signal handler and from any thread.
   subroutine interrupt_reader(reader, ierr)
      type(panta_reader), intent(in) :: reader
      integer, intent(out), optional :: ierr
      call panta_settle(c_interrupt(reader%handle), ierr)
   end subroutine

   ! Takes the interrupt back.
   subroutine clear_writer(writer, ierr)
      type(panta_writer), intent(in) :: writer
      integer, intent(out), optional :: ierr
      call panta_settle(c_clear_interrupt(writer%handle), ierr)
   end subroutine

   ! Takes the interrupt back.
   subroutine clear_reader(reader, ierr)
      type(panta_reader), intent(in) :: reader
      integer, intent(out), optional :: ierr
      call panta_settle(c_clear_interrupt(reader%handle), ierr)
   end subroutine

end module panta
