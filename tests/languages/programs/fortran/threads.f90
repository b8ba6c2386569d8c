program threads
  use, intrinsic :: iso_fortran_env, only: int64
  use omp_lib, only: omp_get_num_threads
  implicit none
  integer, parameter :: limit = 100000
  integer(int64) :: n, total
  integer :: workers

  total = 0
  !$omp parallel num_threads(4)
  !$omp single
  workers = omp_get_num_threads()
  !$omp end single
  !$omp do reduction(+:total)
  do n = 1, limit
    total = total + n * n
  end do
  !$omp end do
  !$omp end parallel
  print '(i0,a,i0)', workers, ' workers, total ', total
end program threads
