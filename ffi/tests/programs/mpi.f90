! Two ranks write and read together, with communicators of both kinds, and learn
! of one that was freed. Usage: mpi URL
program ranks
   use mpi_f08
   use panta
   use panta_mpi
   use, intrinsic :: iso_c_binding
   implicit none
   integer, parameter :: rows = 3, columns = 5
   character(1024) :: url
   integer :: rank, size, ierr

   call get_command_argument(1, url)
   call MPI_Init()
   call MPI_Comm_rank(MPI_COMM_WORLD, rank)
   call MPI_Comm_size(MPI_COMM_WORLD, size)
   call misuse()
   call write_it()
   call read_it()
   call MPI_Finalize()

contains

   subroutine expect(is, what)
      logical, intent(in) :: is
      character(*), intent(in) :: what
      if (is) return
      print '(a,i0,4a)', 'rank ', rank, ': not so: ', what, ': ', panta_error_message()
      error stop 1
   end subroutine

   subroutine misuse()
      type(MPI_Comm) :: freed, copy
      type(panta_comm) :: comm
      type(panta_writer) :: out
      call MPI_Comm_dup(MPI_COMM_WORLD, freed)
      copy = freed
      call MPI_Comm_free(freed)
      call panta_comm_mpi(copy, comm, ierr)
      call expect(ierr == PANTA_ERROR_ARGUMENT, 'a freed communicator is refused')
      call expect(index(panta_error_message(), '`group`') > 0, 'by the name of the argument')
      call panta_comm_mpi(copy%MPI_VAL, comm, ierr)
      call expect(ierr == PANTA_ERROR_ARGUMENT, 'a freed one of the other kind')
      call panta_comm_mpi(MPI_COMM_NULL, comm, ierr)
      call expect(ierr == PANTA_ERROR_ARGUMENT, 'none is refused')
      call panta_writer_open(url, out, comm, ierr=ierr)
      call expect(ierr == PANTA_ERROR_NULL, 'and cannot be opened with')
      call expect(index(panta_error_message(), '`comm`') > 0, 'which names `comm`')
      call panta_comm_mpi(MPI_COMM_WORLD, comm)
      call panta_comm_close(comm)
      call panta_writer_open(url, out, comm, ierr=ierr)
      call expect(ierr == PANTA_ERROR_CLOSED_HANDLE, 'a closed one is known to be')
   end subroutine

   subroutine write_it()
      type(panta_comm) :: comm
      type(panta_writer) :: out
      type(panta_variable) :: u
      real(c_double) :: band(rows, columns)
      integer :: step, own, all
      call panta_comm_mpi(MPI_COMM_WORLD, comm)
      call panta_writer_open(url, out, comm)
      call panta_comm_close(comm)
      call panta_writer_group(out, own, all)
      call expect(own == rank .and. all == size, 'ranks are numbered as MPI does')
      call panta_define(out, u, 'u', PANTA_F64, [rows, columns*size], dimension_names=['x', 'y'])
      do step = 1, 3
         band = 100*step + rank
         call panta_begin_step(out, 0.1_c_double*step)
         call panta_put(out, u, band, [1, columns*rank + 1])
         call panta_end_step(out)
      end do
      call panta_writer_close(out)
   end subroutine

   subroutine read_it()
      type(panta_comm) :: comm
      type(panta_reader) :: in
      type(panta_step) :: found
      real(c_double) :: whole(rows, columns*size)
      integer :: step, other
      call panta_comm_mpi(MPI_COMM_WORLD%MPI_VAL, comm)
      call panta_reader_open(url, in, comm)
      call panta_comm_close(comm)
      step = 0
      do while (panta_next_step(in, found))
         step = step + 1
         call panta_get(found, 'u', whole)
         do other = 0, size - 1
            call expect(all(whole(:, columns*other + 1:columns*(other + 1)) == 100*step + other), &
                        'the band of a rank')
         end do
      end do
      call expect(step == 3, 'three steps')
      call panta_reader_close(in)
   end subroutine
end program ranks
