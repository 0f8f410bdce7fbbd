! Fails unless a communicator of MPI makes one of Panta.
program consumer
   use mpi_f08
   use panta
   use panta_mpi
   implicit none
   type(panta_comm) :: comm
   call MPI_Init()
   call panta_comm_mpi(MPI_COMM_WORLD, comm)
   call panta_comm_close(comm)
   call MPI_Finalize()
end program consumer
