! panta_mpi.F90: a panta_comm from a communicator of MPI.
!
!   use mpi_f08
!   use panta
!   use panta_mpi
!   type(panta_comm) :: comm
!   call panta_comm_mpi(MPI_COMM_WORLD, comm)
!   call panta_writer_open('run42', out, comm)
!   call panta_comm_close(comm)
!
! A type(MPI_Comm) or an integer will do, as mpi_f08, mpi and mpif.h have them. What
! the communicator is used for, and when, is said in panta_mpi.h.
!
! Compiled with your program, by your mpifort, as is panta_fortran_mpi.c beside it by
! your mpicc. Where MPI has no mpi_f08 for your compiler, define PANTA_NO_MPI_F08:
! then integers are taken only.
!
! SPDX-License-Identifier: MIT OR Apache-2.0
module panta_mpi
   use, intrinsic :: iso_c_binding, only: c_int, c_ptr
   use panta, only: panta_comm, panta_settle
#ifndef PANTA_NO_MPI_F08
   use mpi_f08, only: MPI_Comm
#endif
   implicit none
   private
   public :: panta_comm_mpi

   ! call panta_comm_mpi(group, comm [, ierr])
   ! The ranks of a communicator, numbered as they are there; collective over it.
   interface panta_comm_mpi
      procedure :: from_integer
#ifndef PANTA_NO_MPI_F08
      procedure :: from_type
#endif
   end interface

   interface
      integer(c_int) function c_comm_mpi(group, comm) bind(C, name='panta_fortran_comm_mpi')
         import :: c_int, c_ptr
         integer(c_int), value :: group
         type(c_ptr), intent(out) :: comm
      end function
   end interface

contains

   subroutine from_integer(group, comm, ierr)
      integer, intent(in) :: group
      type(panta_comm), intent(out) :: comm
      integer, intent(out), optional :: ierr
      call panta_settle(c_comm_mpi(int(group, c_int), comm%handle), ierr)
   end subroutine

#ifndef PANTA_NO_MPI_F08
   subroutine from_type(group, comm, ierr)
      type(MPI_Comm), intent(in) :: group
      type(panta_comm), intent(out) :: comm
      integer, intent(out), optional :: ierr
      call from_integer(group%MPI_VAL, comm, ierr)
   end subroutine
#endif

end module panta_mpi
