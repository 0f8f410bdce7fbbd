! Interrupting an opening, freezing definitions, a descriptor to wait on: waiting URL.
program waiting
   use panta
   use, intrinsic :: iso_c_binding, only: c_int
   use, intrinsic :: iso_fortran_env, only: error_unit
   implicit none
   character(1024) :: url
   type(panta_interrupter) :: interrupter
   type(panta_writer) :: out
   type(panta_reader) :: in
   type(panta_step) :: step
   type(panta_variable) :: v
   integer(c_int) :: descriptor
   integer :: ierr

   call get_command_argument(1, url)
   call panta_interrupter_open(interrupter)
   call panta_interrupt(interrupter)
   call panta_reader_open(url, in, interrupter=interrupter, ierr=ierr)
   call expect(ierr == PANTA_ERROR_INTERRUPTED, 'an opening is interrupted')
   call panta_clear_interrupt(interrupter)
   call panta_writer_open(url, out, interrupter=interrupter)
   call panta_define_value(out, v, 'v', PANTA_F64)
   call panta_freeze_definitions(out)
   call panta_define_value(out, v, 'w', PANTA_F64, ierr=ierr)
   call expect(ierr == PANTA_ERROR_REDEFINED, 'what is frozen cannot be added to')
   call panta_reader_open(url, in, interrupter=interrupter)
   call panta_wait_fd(in, descriptor)
   call expect(descriptor >= 0, 'there is a descriptor')
   call expect(.not. panta_next_step(in, step, deadline_ms=0_8, ierr=ierr), 'there is no step')
   call expect(ierr == PANTA_NOT_READY, 'nothing is ready')
   call panta_reader_close(in)
   call panta_writer_close(out)
   call panta_interrupter_close(interrupter)
   call panta_interrupter_close(interrupter, ierr)
   call expect(ierr == PANTA_ERROR_CLOSED_HANDLE, 'it was closed')
   ! By hand: no thread is started, and what is to be done is done in calls.
   call panta_writer_open(url, out, silence_ms=-1_8, ierr=ierr)
   call expect(ierr == PANTA_ERROR_ARGUMENT, 'nobody stays away for less than nothing')
   call panta_writer_open(url, out, silence_ms=600000_8)
   call panta_define_value(out, v, 'v', PANTA_F64)
   call panta_writer_wait_fd(out, descriptor)
   call expect(descriptor >= 0, 'there is a descriptor')
   call panta_progress(out)
   call panta_reader_open(url, in, silence_ms=600000_8)
   call panta_progress(in)
   call panta_reader_close(in)
   call panta_progress(in, ierr)
   call expect(ierr == PANTA_ERROR_CLOSED_HANDLE, 'it was closed, too')
   call panta_writer_close(out)
contains
   subroutine expect(condition, what)
      logical, intent(in) :: condition
      character(*), intent(in) :: what
      if (condition) return
      write (error_unit, '(3a)') what, ': ', panta_error_message()
      error stop 1
   end subroutine
end program waiting
