! Ranks of a communicator that is an integer, as of mpif.h, write and read together.
! Usage: integers URL
program integers
   use panta
   use panta_mpi
   use, intrinsic :: iso_c_binding
   implicit none
   include 'mpif.h'
   integer, parameter :: own = 3
   character(1024) :: url
   type(panta_comm) :: comm
   type(panta_writer) :: out
   type(panta_reader) :: in
   type(panta_step) :: step
   type(panta_variable) :: u
   real(c_double), allocatable :: band(:), whole(:)
   integer :: rank, size_of_group, ierr, i

   call get_command_argument(1, url)
   call MPI_Init(ierr)
   call MPI_Comm_rank(MPI_COMM_WORLD, rank, ierr)
   call MPI_Comm_size(MPI_COMM_WORLD, size_of_group, ierr)
   call panta_comm_mpi(MPI_COMM_NULL, comm, ierr)
   if (ierr /= PANTA_ERROR_ARGUMENT) error stop 'none is refused'
   call panta_comm_mpi(MPI_COMM_WORLD, comm)
   call panta_writer_open(url, out, comm)
   call panta_define(out, u, 'u', PANTA_F64, [own*size_of_group])
   band = [(100*rank + i, i=1, own)]
   call panta_begin_step(out)
   call panta_put(out, u, band, [own*rank + 1])
   call panta_end_step(out)
   call panta_writer_close(out)
   call panta_reader_open(url, in, comm)
   if (.not. panta_next_step(in, step)) error stop 'there is no step'
   allocate (whole(own*size_of_group))
   call panta_get(step, 'u', whole)
   do i = 0, own*size_of_group - 1
      if (whole(i + 1) /= 100*(i/own) + mod(i, own) + 1) error stop 'a value'
   end do
   call panta_reader_close(in)
   call panta_comm_close(comm)
   call MPI_Finalize(ierr)
end program integers
