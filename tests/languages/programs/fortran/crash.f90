program crash
  use, intrinsic :: iso_fortran_env, only: output_unit
  implicit none
  print '(a)', 'before'
  flush (output_unit)
  print *, divide(1, 0)
contains
  integer function divide(dividend, divisor)
    integer, intent(in) :: dividend, divisor
    if (divisor == 0) error stop 'boom'
    divide = dividend / divisor
  end function divide
end program crash
