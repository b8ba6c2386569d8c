program factorial
  use, intrinsic :: iso_fortran_env, only: int64
  implicit none

  call print_factorial(5)
  call print_factorial(25)
  call print_factorial(50)

contains

  ! A big number is an array of groups of nine digits, the least first.
  subroutine print_factorial(number)
    integer, intent(in) :: number
    integer(int64), parameter :: base = 1000000000
    integer(int64), allocatable :: groups(:)
    integer(int64) :: carry
    integer :: factor, index

    groups = [1_int64]
    do factor = 2, number
      carry = 0
      do index = 1, size(groups)
        carry = carry + groups(index) * factor
        groups(index) = mod(carry, base)
        carry = carry / base
      end do
      if (carry > 0) groups = [groups, carry]
    end do
    print '(i0,a,i0,*(i9.9))', number, '! = ', groups(size(groups):1:-1)
  end subroutine print_factorial

end program factorial
