program leave
  use, intrinsic :: iso_fortran_env, only: error_unit
  implicit none
  print '(a)', 'leaving'
  write (error_unit, '(a)') 'so long'
  stop 7, quiet=.true.
end program leave
