! Much of what programs in Fortran do: arrays, files, threads of OpenMP, commands, times.
module shapes
  use, intrinsic :: iso_fortran_env, only: real64, int64, error_unit, iostat_end
  implicit none
  type, abstract :: shape
  contains
    procedure(area_of), deferred :: area
  end type
  abstract interface
    real(real64) function area_of(self)
      import :: shape, real64
      class(shape), intent(in) :: self
    end function
  end interface
  type, extends(shape) :: square
    real(real64) :: side
  contains
    procedure :: area => square_area
  end type
contains
  real(real64) function square_area(self)
    class(square), intent(in) :: self
    square_area = self%side**2
  end function
  recursive integer(int64) function factorial(n) result(value)
    integer, intent(in) :: n
    value = 1
    if (n > 1) value = n * factorial(n - 1)
  end function
end module

program ordinary
  use shapes
  use omp_lib
  implicit none
  class(shape), allocatable :: one
  real(real64), allocatable :: a(:, :), b(:, :)
  real(real64) :: total, started
  integer :: i, unit, status, exit_status, values(8), seed_size
  integer(int64) :: ticks, found
  character(len=:), allocatable :: text
  character(len=200) :: line
  logical :: there

  one = square(3.0_real64)
  if (abs(one%area() - 9) > 1e-9) error stop 1
  if (factorial(10) /= 3628800) error stop 2
  call random_seed(size=seed_size)
  call random_seed()
  allocate (a(300, 300), b(300, 300))
  call random_number(a)
  b = matmul(a, transpose(a))
  if (sum(b) <= 0) error stop 3
  total = 0
  started = omp_get_wtime()
  !$omp parallel do reduction(+:total)
  do i = 1, 300
    total = total + sum(b(:, i))
  end do
  !$omp end parallel do
  if (abs(total - sum(b)) > 1e-3) error stop 4
  call omp_set_num_threads(4)
  !$omp parallel
  !$omp critical
  total = total + omp_get_thread_num()
  !$omp end critical
  !$omp end parallel

  open (newunit=unit, file='/tmp/numbers.txt', status='replace', action='write')
  do i = 1, 1000
    write (unit, '(I8, F12.4)') i, sqrt(real(i))
  end do
  flush (unit)
  close (unit)
  open (newunit=unit, file='/tmp/numbers.txt', status='old', action='read')
  found = 0
  do
    read (unit, '(A)', iostat=status) line
    if (status == iostat_end) exit
    found = found + 1
  end do
  close (unit, status='delete')
  if (found /= 1000) error stop 5
  open (newunit=unit, file='/tmp/raw.bin', form='unformatted', access='stream', status='replace')
  write (unit) a
  rewind (unit)
  read (unit) b
  inquire (unit=unit, opened=there)
  close (unit, status='delete')
  open (newunit=unit, status='scratch')
  write (unit, *) there
  close (unit)
  inquire (file='/etc/passwd', exist=there)
  if (.not. there) error stop 6

  call execute_command_line('ls / > /dev/null; exit 3', exitstat=exit_status)
  if (exit_status /= 3) error stop 7
  call date_and_time(values=values)
  call system_clock(ticks)
  call cpu_time(started)
  call get_environment_variable('PATH', line)
  call get_command_argument(0, line)
  text = trim(line)//' grüße'
  write (line, '(A, I0)') 'n=', len(text)
  deallocate (a, b)
  print '(A)', 'done'
end program
