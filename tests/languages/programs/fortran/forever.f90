program forever
  use, intrinsic :: iso_fortran_env, only: output_unit
  implicit none
  print '(a)', 'started'
  flush (output_unit)
  do
    call execute_command_line('sleep 1')
  end do
end program forever
