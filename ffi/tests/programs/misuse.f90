! What a program can do wrong is an error that names the argument. Usage: misuse URL
! [stop]: with it, an error that nobody takes stops the program.
program misuse
   use panta
   use, intrinsic :: iso_c_binding
   implicit none
   type :: thing
      integer :: is = 1
   end type
   character(1024) :: url, last
   type(panta_writer) :: out, never
   type(panta_variable) :: u, mask, text
   integer, parameter :: nx = 4, ny = 3
   real(c_double) :: field(nx, ny) = 1
   integer :: ierr

   call get_command_argument(1, url)
   call get_command_argument(2, last)
   call panta_writer_open(url, out)
   call panta_define(out, u, 'u', PANTA_F64, [nx, ny])
   call panta_define(out, mask, 'mask', PANTA_BOOL, [nx])
   call panta_define_value(out, text, 'text', PANTA_TEXT)
   if (last == 'stop') call panta_put(out, u, field)
   call definitions()
   call puts()
   call step_that_fails()
   call good_step()
   call gets()
   call handles()
   print '(a)', 'misuse: all refused'

contains

   ! Fails unless the last call failed with `status` and words among them `names`.
   subroutine refused(status, names, what)
      integer, intent(in) :: status
      character(*), intent(in) :: names, what
      if (ierr == status .and. index(panta_error_message(), names) > 0) return
      print '(a,i0,4a)', 'not so: ', ierr, ' for ', what, ': ', panta_error_message()
      error stop 1
   end subroutine

   subroutine definitions()
      type(panta_variable) :: v
      call panta_define(out, v, 'v', PANTA_F64, [nx], dimension_names=['x', 'y'], ierr=ierr)
      call refused(PANTA_ERROR_DEFINITION, '`dimension_names`', 'two names for one dimension')
      call panta_define(out, v, 'v', PANTA_F64, [nx], chunk=[1, 1], ierr=ierr)
      call refused(PANTA_ERROR_DEFINITION, '`chunk`', 'two sides of a chunk')
      call panta_define(out, v, 'v', PANTA_F64, [nx], fill=1, ierr=ierr)
      call refused(PANTA_ERROR_DTYPE, '`fill`', 'an integer to fill reals with')
      call panta_define(out, v, 'v', PANTA_F64, [-1], ierr=ierr)
      call refused(PANTA_ERROR_ARGUMENT, 'shape', 'a negative extent')
      call panta_define(out, v, 'v', 99, [nx], ierr=ierr)
      call refused(PANTA_ERROR_ARGUMENT, 'dtype', 'a type that is none')
      call panta_define_joined(out, v, 'v', PANTA_F64, [nx], 2, ierr=ierr)
      call refused(PANTA_ERROR_DEFINITION, '`joined_dimension`', 'a dimension that is none')
      call panta_set_shape(out, u, [nx], ierr)
      call refused(PANTA_ERROR_SHAPE, '`shape`', 'a shape of other dimensions')
   end subroutine

   subroutine puts()
      type(thing) :: things(nx)
      real(c_float) :: single(nx, ny) = 1
      real(c_double), allocatable :: none(:, :)
      integer(c_int64_t) :: long(3) = 1
      type(panta_variable) :: nothing
      call panta_put(out, u, field, ierr=ierr)
      call refused(PANTA_ERROR_NO_STEP, 'outside a step', 'a put outside a step')
      call panta_begin_step(out)
      call panta_put(out, nothing, field, ierr=ierr)
      call refused(PANTA_ERROR_UNKNOWN_VARIABLE, '`variable` is none', 'a variable that was not defined')
      call panta_put(out, u, field, [1, 1], count=[nx, 2], ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, 'of shape (4, 3), `count` is (4, 2)', 'another count')
      call panta_put(out, u, field(:, 1), ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`array` has rank 1, the variable 2', 'a vector')
      call panta_put(out, u, single, ierr)
      call refused(PANTA_ERROR_DTYPE, '`array` is real(4) of shape (4, 3)', 'single precision')
      call panta_put(out, u, things, ierr)
      call refused(PANTA_ERROR_DTYPE, '`array`', 'a type of the program''s own')
      call panta_put(out, u, ['ab', 'cd'], ierr)
      call refused(PANTA_ERROR_DTYPE, '`array`', 'characters')
      call panta_put(out, u, field, [1], ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`start`', 'a start of one dimension')
      call panta_put(out, u, field, long, ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`start` is (1, 1, 1)', 'a start of three')
      call panta_put(out, u, field, [0, 1], ierr=ierr)
      call refused(PANTA_ERROR_ARGUMENT, '`start` has 0', 'a start from zero')
      call panta_put(out, u, field, [2, 1], ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`start` is (2, 1)', 'a block beyond the edge')
      call panta_put(out, u, field, [1, 1], count=[nx, 2], ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`count`', 'a count that is not the array''s')
      call panta_put(out, mask, field(:, 1), ierr=ierr)
      call refused(PANTA_ERROR_DTYPE, '`array` is real(8)', 'reals into a logical')
      call panta_put(out, text, 1, ierr)
      call refused(PANTA_ERROR_DTYPE, '`array` is integer(4)', 'a number into a text')
      allocate (none(1, 1))
      deallocate (none)
      call panta_put(out, u, none, ierr)
      call refused(PANTA_ERROR_NULL, '`array`', 'an array that is not allocated')
      call panta_put_deferred(out, u, field(1, :), ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`array`', 'a row, deferred')
      call of_assumed_size(field)
      call panta_end_step(out, ierr=ierr)
   end subroutine

   subroutine of_assumed_size(array)
      real(c_double), intent(in) :: array(nx, *)
      call panta_put(out, u, array(:, 1:ny), ierr=ierr)
      if (ierr /= PANTA_OK) error stop 'a section of an array of assumed size is refused'
   end subroutine

   ! One put that failed makes its step fail, whatever the program did about it.
   subroutine step_that_fails()
      call panta_begin_step(out)
      call panta_put(out, u, field(:, 1), ierr=ierr)
      call panta_put(out, u, field)
      call panta_end_step(out, ierr=ierr)
      call refused(PANTA_ERROR_REFUSED, '`array` has rank 1', 'the end of a step with such a put')
   end subroutine

   subroutine good_step()
      call panta_begin_step(out)
      call panta_put(out, u, field)
      call panta_end_step(out)
      call panta_writer_close(out)
   end subroutine

   subroutine gets()
      type(panta_reader) :: in
      type(panta_step) :: found
      type(panta_batch) :: batch
      type(panta_variable_info) :: info
      real(c_float) :: single(nx, ny)
      real(c_double) :: wide(nx, ny, 2)
      integer :: numbers(nx, ny)
      character(:), allocatable :: text
      call panta_reader_open(url, in)
      if (.not. panta_next_step(in, found)) error stop 'there is no step'
      call panta_get(found, 'uu', field, ierr=ierr)
      call refused(PANTA_ERROR_UNKNOWN_VARIABLE, '`u`', 'a misspelt name')
      call panta_get(found, 'u', single, ierr=ierr)
      call refused(PANTA_ERROR_DTYPE, '`array` is real(4)', 'single precision')
      call panta_get(found, 'u', numbers, ierr=ierr)
      call refused(PANTA_ERROR_DTYPE, '`array` is integer(4)', 'integers')
      call panta_get(found, 'u', wide, ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`array` is real(8) of shape (4, 3, 2)', 'another rank')
      call panta_get(found, 'u', field(1:2, :), ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`array` is real(8) of shape (2, 3)', 'another shape')
      call panta_get(found, 'u', field, [2, 1], ierr=ierr)
      call refused(PANTA_ERROR_SELECTION, '`start` is (2, 1)', 'a box beyond the edge')
      call panta_get(found, 'u', field, [1, 1], stride=[1], ierr=ierr)
      call refused(PANTA_ERROR_SHAPE, '`stride`', 'one stride for two dimensions')
      call panta_get(found, 'u', field, block=-1, ierr=ierr)
      call refused(PANTA_ERROR_ARGUMENT, '`block`', 'a block below the first')
      call panta_variable_at(found, 0, info, ierr)
      call refused(PANTA_ERROR_ARGUMENT, '`index` is 0, counted from 1', 'a place below the first')
      call panta_get_text(found, 'u', text, ierr=ierr)
      call refused(PANTA_ERROR_DTYPE, 'u', 'a text of an array')
      call panta_get_attribute(found, 'none', text, ierr=ierr)
      call refused(PANTA_ERROR_UNKNOWN_ATTRIBUTE, 'none', 'an attribute that is not there')
      call panta_batch_get(batch, 'u', field, ierr=ierr)
      call refused(PANTA_ERROR_NULL, 'batch', 'a batch that was never opened')
      call panta_batch_open(found, batch)
      call panta_batch_finish(batch)
      call panta_batch_finish(batch, ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'batch', 'a batch that was finished')
      call panta_reader_close(in)
      call panta_get(found, 'u', field, ierr=ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'step', 'a step of a reader that is gone')
      call panta_reader_close(in, ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'reader', 'a reader that was closed')
   end subroutine

   subroutine handles()
      type(panta_comm) :: comm
      call panta_begin_step(out, ierr=ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'writer', 'a writer that was closed')
      call panta_put(out, u, field, ierr=ierr)
      call refused(PANTA_ERROR_CLOSED_HANDLE, 'writer', 'a put with it')
      call panta_end_step(never, ierr=ierr)
      call refused(PANTA_ERROR_NULL, 'writer', 'a writer that was never opened')
      call panta_interrupt(out, ierr)
      call panta_writer_open(url, out, comm, ierr=ierr)
      call refused(PANTA_ERROR_NULL, '`comm`', 'a communicator that was never made')
      call panta_writer_open('nothing:of the kind', out, ierr=ierr)
      call refused(PANTA_ERROR_CONFIG, 'nothing', 'a scheme that there is not')
   end subroutine
end program misuse
