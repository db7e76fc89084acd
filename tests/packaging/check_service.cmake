# Whether systemd takes the unit file as it is, and how much it leaves open. cmake -DSERVICE=… -DCOMMAND=… -DWORK=… -P …
find_program(analyze systemd-analyze)
if(NOT analyze)
    message("systemd-analyze is not here: the unit file is not checked")
    return()
endif()
# The command need not be installed for this.
file(READ ${SERVICE} unit)
string(REPLACE "ExecStart=fastkv " "ExecStart=${COMMAND} " unit "${unit}")
file(WRITE ${WORK}/fastkv.service "${unit}")
execute_process(COMMAND ${analyze} verify --man=no ${WORK}/fastkv.service
                RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status OR output)
    message(FATAL_ERROR "systemd-analyze verify (${status}):\n${output}")
endif()
# Of 100; below 20 is what systemd calls fine.
execute_process(COMMAND ${analyze} security --offline=true --threshold=20 ${WORK}/fastkv.service
                RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status)
    message(FATAL_ERROR "systemd-analyze security:\n${output}")
endif()
